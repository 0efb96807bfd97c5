#include "nn/quantized_product.h"

#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "core/device.h"
#include "core/machine.h"
#include "core/meta_device.h"
#include "core/text.h"
#include "core/trace.h"
#include "nn/fused.h"
#include "nn/quantize_kernels.h"

namespace opensora::nn {
namespace {

constexpr int kTuring = 75, kAda = 89, kBlackwellUltra = 103;
constexpr int64_t kMultiple = 16;  // of inputs and outputs that all of the library's kernels take

bool is_int8(QuantizedFormat format) { return format == QuantizedFormat::kInt8; }
bool is_fp8(QuantizedFormat format) {
  return format == QuantizedFormat::kFp8E4M3 || format == QuantizedFormat::kFp8E5M2;
}

at::ScalarType activation_dtype(QuantizedFormat format) { return is_int8(format) ? at::kChar : at::kFloat8_e4m3fn; }

void quantize_rows(const at::Tensor& q, const at::Tensor& scale, const at::Tensor& x) {
  if (x.is_meta()) return count_pass({x, q, scale});
  const auto kernel = fused_kernels(x.device()).quantize_rows;
  if (kernel != nullptr && x.stride(1) == 1 && kernel(q, scale, x)) return;
  plain::quantize_rows(q, scale, x);
}

void rescale_sums(const at::Tensor& out, const at::Tensor& sums, const at::Tensor& row_scale,
                  const at::Tensor& column_scale, const at::Tensor& bias, double scale, Ending ending) {
  if (out.is_meta()) return count_pass({sums, row_scale, column_scale, out});
  const auto kernel = fused_kernels(out.device()).rescale_sums;
  const bool fits = out.stride(1) == 1 && (!bias.defined() || bias.is_contiguous());
  if (kernel != nullptr && fits && kernel(out, sums, row_scale, column_scale, bias, scale, ending)) return;
  plain::rescale_sums(out, sums, row_scale, column_scale, bias, scale, ending);
}

// sums [rows, out] = q weight^T: int32 of int8, float32 of fp8.
void multiply(at::Tensor sums, const at::Tensor& q, const at::Tensor& weight) {
  if (q.scalar_type() == at::kChar) {
    at::_int_mm_out(sums, q, weight.t());
    return;
  }
  const at::Tensor one = at::ones({}, sums.options());
  at::_scaled_mm_out(sums, q, weight.t(), one, one, /*bias=*/{}, /*scale_result=*/{}, at::kFloat,
                     /*use_fast_accum=*/true);
}

// One number a row, or one for all.
at::Tensor column_scales(const QuantizedTensor& weight) {
  if (weight.scale.defined()) return weight.scale.flatten();
  return at::ones({1}, weight.data.options().dtype(at::kFloat));
}

// What is multiplied, as the weights' rotation wants it.
at::Tensor rotated_inputs(const at::Tensor& x, int64_t rotation) {
  if (rotation == 0) return x;
  const at::Tensor wide = at::empty(x.sizes(), x.options().dtype(at::kFloat)).copy_(x);
  rotate_(wide, rotation);
  return wide;
}

// Rows that fit into the buffers.
void multiply_part(const at::Tensor& out, const at::Tensor& x, const QuantizedTensor& weight, const at::Tensor& bias,
                   double scale, Ending ending) {
  const at::TensorOptions options = x.options();
  const at::Tensor q = at::empty(x.sizes(), options.dtype(activation_dtype(weight.format)));
  const at::Tensor row_scale = at::empty({x.size(0)}, options.dtype(at::kFloat));
  quantize_rows(q, row_scale, rotated_inputs(x, weight.rotation));
  const at::Tensor sums = at::empty(out.sizes(), options.dtype(is_int8(weight.format) ? at::kInt : at::kFloat));
  multiply(sums, q, weight.data);
  rescale_sums(out, sums, row_scale, column_scales(weight), bias, scale, ending);
}

void multiply_all(const at::Tensor& out, const at::Tensor& x, const QuantizedTensor& weight, const at::Tensor& bias,
                  double scale, Ending ending) {
  const int64_t rows = x.size(0), parts = (rows + kMostRows - 1) / kMostRows;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t first = rows * i / parts, count = rows * (i + 1) / parts - first;
    multiply_part(out.narrow(0, first, count), x.narrow(0, first, count), weight, bias, scale, ending);
  }
}

// Small matrices whose product by a device is compared with that of what they stand for, in float64. One row of each
// has nothing but the largest numbers: sums of 16 bits, which CPUs without VNNI have within, would overflow.
std::string trial_problem(QuantizedFormat format, at::Device device) {
  constexpr int64_t kRows = 40, kIn = 256, kOut = 48;
  const double limit = is_int8(format) ? 0.02 : 0.06;  // what rounding x to 8 bits amounts to is half of it
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);
  const auto draw = [&](int64_t rows) {
    const at::Tensor x = at::randn({rows, kIn}, generator, at::TensorOptions());
    x.select(0, 1).fill_(3);
    return x.to(device);
  };
  try {
    const at::Tensor x = draw(kRows), w = draw(kOut), out = at::empty({kRows, kOut}, x.options());
    const at::Tensor data = at::empty(w.sizes(), w.options().dtype(activation_dtype(format)));
    const at::Tensor scale = at::empty({kOut}, w.options());
    plain::quantize_rows(data, scale, w);
    multiply_all(out, x, {.format = format, .data = data, .scale = scale.unsqueeze(1)}, {}, 1, Ending::kStore);
    const auto wide = [](const at::Tensor& t) { return t.to(at::kCPU).to(at::kFloat).to(at::kDouble); };
    const at::Tensor expected = at::mm(wide(x), (wide(data) * wide(scale).unsqueeze(1)).t());
    const double error = ((wide(out) - expected).norm() / expected.norm()).item<double>();
    if (error <= limit) return {};
    return fmt::format("its products differ by {:.1e}, at most {:.1e} is rounding", error, limit);
  } catch (const c10::OutOfMemoryError&) {  // says nothing of the product
    throw;
  } catch (const c10::Error& error) {
    return first_line(error.what_without_backtrace());
  }
}

// Once in a process for each of the two, on the CPU and on the one kind of accelerator that it has.
std::string tried_problem(QuantizedFormat format, at::Device device) {
  if (device.is_cpu()) {
    static const std::string int8 = trial_problem(QuantizedFormat::kInt8, device);
    return int8;
  }
  if (is_int8(format)) {
    static const std::string int8 = trial_problem(QuantizedFormat::kInt8, device);
    return int8;
  }
  static const std::string fp8 = trial_problem(QuantizedFormat::kFp8E4M3, device);
  return fp8;
}

// As far as it is known before a trial.
std::string known_problem(QuantizedFormat format, at::Device device) {
  if (device.is_cpu()) return cpu_product_problem(format, cpu_features());
  const GpuInfo* gpu = gpu_of(device);
  return gpu_product_problem(format, gpu == nullptr ? 0 : gpu->capability);
}

// Of a tensor, or of what stands for it in a plan.
std::string problem_of(QuantizedFormat format, const at::Tensor& data) {
  if (!data.is_meta()) return quantized_product_problem(format, data.device());
  const at::DeviceType device = kernel_device(data);
  return device == at::kMeta ? "there is no device" : known_problem(format, device);
}

}  // namespace

std::string cpu_product_problem(QuantizedFormat format, const CpuFeatures& cpu) {
  if (!is_int8(format)) return fmt::format("the CPU has no products of {}", format_name(format));
  return cpu.avx512_vnni ? "" : "the CPU has no AVX-512 VNNI, or its libraries are kept from it";
}

std::string gpu_product_problem(QuantizedFormat format, int capability) {
  if (!is_int8(format) && !is_fp8(format)) return fmt::format("GPUs have no products of {}", format_name(format));
  if (capability == 0) return {};
  const int least = is_int8(format) ? kTuring : kAda;
  if (capability < least) {
    return fmt::format("the GPU's compute capability is {}.{}, and products of {} begin with {}.{}", capability / 10,
                       capability % 10, format_name(format), least / 10, least % 10);
  }
  if (is_int8(format) && capability == kBlackwellUltra) return "the GPU's products of int8 are slower than of bfloat16";
  return {};
}

std::string quantized_product_problem(QuantizedFormat format, at::Device device) {
  const std::string problem = known_problem(format, device);
  return problem.empty() ? tried_problem(format, device) : problem;
}

bool has_quantized_product(const at::Tensor& x, const QuantizedTensor& weight) {
  const at::Tensor &data = weight.data, &scale = weight.scale;
  if (weight.exact_products || has_blocks(weight.format) || x.device() != data.device()) return false;
  if (x.dim() < 2 || x.size(-2) < kLeastRows) return false;
  const bool fits = data.dim() == 2 && data.stride(1) == 1 && data.size(0) % kMultiple == 0 &&
                    data.size(1) % kMultiple == 0 && data.stride(0) % kMultiple == 0;
  const bool is_by_row = !scale.defined() || scale.numel() == 1 || scale.numel() == data.size(0);
  return fits && is_by_row && problem_of(weight.format, data).empty();
}

bool quantized_product(const at::Tensor& out, const at::Tensor& x, const QuantizedTensor& weight,
                       const at::Tensor& bias, double scale, Ending ending) {
  if (!has_quantized_product(x, weight)) return false;
  const TraceSpan span("8-bit product");
  multiply_all(out, x, weight, bias, scale, ending);
  keep_finite(out);
  return true;
}

void plain::quantize_rows(const at::Tensor& q, const at::Tensor& scale, const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor limit = at::full({}, largest_number(q.scalar_type()), wide.options().device(at::kCPU));
  const at::Tensor largest = wide.abs().amax(/*dim=*/1, /*keepdim=*/true).clamp_min(kLeastMagnitude);
  at::Tensor scales = scale.unsqueeze(1);
  at::div_out(scales, largest, limit);
  // One division and products, as the kernels have it: no number is rounded to another neighbour by them.
  const at::Tensor scaled = wide.mul(limit.div(largest));
  q.copy_(q.scalar_type() == at::kChar ? scaled.round() : scaled);
}

void plain::rescale_sums(const at::Tensor& out, const at::Tensor& sums, const at::Tensor& row_scale,
                         const at::Tensor& column_scale, const at::Tensor& bias, double scale, Ending ending) {
  at::Tensor y = sums.to(at::kFloat).mul(row_scale.unsqueeze(1).mul(scale) * column_scale);
  if (bias.defined()) y.add_(bias.to(at::kFloat), scale);
  if (ending == Ending::kAdd) y.add_(out.to(at::kFloat));
  out.copy_(ending == Ending::kGelu ? at::gelu(y, "tanh") : y);
}

}  // namespace opensora::nn
