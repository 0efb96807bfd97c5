#include "nn/linear.h"

#include <c10/util/Exception.h>
#include <spdlog/spdlog.h>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/trace.h"
#include "nn/fused.h"
#include "nn/quantized_product.h"

namespace at::native {
// LibTorch exports this function but installs no header for it: result = alpha * mat1 mat2 + beta * result.
TORCH_API void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2, const Tensor& result, float beta, float alpha);
}  // namespace at::native

namespace opensora::nn {
namespace {

// Whether gelu(x) comes out of LibTorch's product of x and the identity.
bool gelu_product_agrees(at::Device device) {
  constexpr double kLimit = 1e-4;  // the exact GELU differs by up to 4.7e-4
  const at::TensorOptions options = at::TensorOptions(at::kFloat).device(device);
  const at::Tensor x = at::linspace(-8, 8, int64_t{64} * 16, options).view({64, 16});
  try {
    const at::Tensor result = at::_addmm_activation(at::zeros({16}, options), x, at::eye(16, options), 1, 1, true);
    return (result - at::gelu(x, "tanh")).abs().max().item<double>() < kLimit;
  } catch (const c10::OutOfMemoryError&) {  // says nothing of the product
    throw;
  } catch (const c10::Error& error) {
    spdlog::debug("no product with GELU on {}: {}", device.str(), error.what_without_backtrace());
    return false;
  }
}

// The products of x [B, L, in] with a weight that stays quantised; false, with nothing done: there are none.
bool multiply_quantized(const at::Tensor& out, const at::Tensor& x, const std::optional<QuantizedTensor>& weight,
                        const at::Tensor& bias, double scale, Ending ending) {
  if (!weight) return false;
  for (int64_t b = 0; b < x.size(0); ++b) {  // all have them, or none has
    if (!quantized_product(out.select(0, b), x.select(0, b), *weight, bias, scale, ending)) return false;
  }
  return true;
}

}  // namespace

bool has_gelu_product(at::Device device) {
  if (device.is_cpu() || device.is_meta()) return false;
  static const bool accelerator = gelu_product_agrees(device);  // a process has one kind
  return accelerator;
}

bool prefers_onednn() {
  const CpuFeatures& cpu = cpu_features();
  return cpu.is_amd && cpu.avx512;
}

void product(const at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
             double scale) {
  const TraceSpan span("product");
  at::Tensor result = out;
  const bool is_float_on_cpu = x.is_cpu() && x.scalar_type() == at::kFloat;
  if (is_float_on_cpu && x.numel() > 0 && x.stride(1) == 1 && out.stride(1) == 1 && prefers_onednn()) {
    if (bias.defined()) result.copy_(bias.expand_as(result));
    at::native::mkldnn_matmul(x, weight.t(), result, bias.defined() ? static_cast<float>(scale) : 0.0F,
                              static_cast<float>(scale));
  } else if (bias.defined()) {
    at::addmm_out(result, bias, x, weight.t(), scale, scale);
  } else if (scale != 1) {
    at::addmm_out(result, result, x, weight.t(), /*beta=*/0, scale);
  } else {
    at::mm_out(result, x, weight.t());
  }
  keep_finite(result);
}

Linear::Linear(const Weights& weights, int64_t in_features, int64_t out_features, bool with_bias) {
  Matrix matrix = weights.matrix("weight", {out_features, in_features});
  weight = std::move(matrix.weight);
  quantized = std::move(matrix.quantized);
  if (with_bias) bias = weights.tensor("bias", {out_features});
}

at::Tensor WeightBuffer::space_for(at::IntArrayRef shape, const at::Tensor& x) {
  const int64_t count = c10::multiply_integers(shape);
  const bool fits = data_.defined() && data_.numel() >= count && data_.scalar_type() == x.scalar_type() &&
                    data_.device() == x.device();
  if (!fits) {
    data_.reset();  // first, or both would exist for a moment
    data_ = at::empty({count}, x.options());
    use_huge_pages(data_);
  }
  return data_.narrow(0, 0, count).view(shape);
}

void WeightBuffer::copy_from_host(const at::Tensor& from, const at::Tensor& to) {
  if (!staging_) staging_.emplace(to.device(), kStagingBytes);
  staging_->copy(from, to, /*stream=*/std::nullopt);
}

at::Tensor WeightBuffer::converted(const at::Tensor& weight, const at::Tensor& x) {
  if (weight.scalar_type() == x.scalar_type() && weight.device() == x.device()) return weight;
  const TraceSpan span("convert weight");
  at::Tensor copy = space_for(weight.sizes(), x);
  if (!weight.is_cpu() || x.is_cpu()) return copy.copy_(weight);
  copy_from_host(weight, copy);
  return copy;
}

at::Tensor WeightBuffer::converted(const QuantizedTensor& weight, const at::Tensor& x) {
  const TraceSpan span("dequantise weight");
  const at::Tensor copy = space_for(weight.shape(), x);
  QuantizedTensor there = weight;
  for (at::Tensor* part : {&there.data, &there.scale}) {
    if (!part->defined() || part->device() == x.device() || !part->is_cpu()) continue;
    const at::Tensor moved = at::empty(part->sizes(), part->options().device(x.device()));
    copy_from_host(part->contiguous(), moved);
    *part = moved;
  }
  dequantize_into(copy, there);
  return copy;
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  WeightBuffer buffer;
  const Linear layer = converted_for(x, buffer);
  if (layer.quantized) {
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = out_features();
    const at::Tensor result = at::empty(shape, x.options());
    quantized_product(result.view({-1, out_features()}), x.reshape({-1, x.size(-1)}), *layer.quantized, layer.bias);
    return result;
  }
  const at::Tensor out = bias.defined() ? at::linear(x, layer.weight, layer.bias) : at::linear(x, layer.weight);
  keep_finite(out);
  return out;
}

void Linear::into(const at::Tensor& out, const at::Tensor& x, double scale) const {
  WeightBuffer buffer;
  into(out, x, buffer, scale);
}

void Linear::into(const at::Tensor& out, const at::Tensor& x, WeightBuffer& buffer, double scale) const {
  const Linear layer = converted_for(x, buffer);
  if (multiply_quantized(out, x, layer.quantized, layer.bias, scale, Ending::kStore)) return;
  for (int64_t b = 0; b < x.size(0); ++b) product(out.select(0, b), x.select(0, b), layer.weight, layer.bias, scale);
}

void Linear::gelu_into(const at::Tensor& out, const at::Tensor& x) const {
  if (multiply_quantized(out, x, quantized, bias, 1, Ending::kGelu)) return;
  if (quantized || !bias.defined() || !has_gelu_product(x.device())) {
    into(out, x);
    return gelu_tanh(out);
  }
  const TraceSpan span("product with GELU");
  for (int64_t b = 0; b < x.size(0); ++b) {
    at::Tensor result = out.select(0, b);
    at::_addmm_activation_out(result, bias, x.select(0, b), weight.t(), 1, 1, /*use_gelu=*/true);
  }
  keep_finite(out);
}

void Linear::add_into(const at::Tensor& out, const at::Tensor& x, double scale) const {
  if (multiply_quantized(out, x, quantized, /*bias=*/{}, scale, Ending::kAdd)) return;
  if (quantized) return Linear(dequantized(*quantized, x.scalar_type()), at::Tensor()).add_into(out, x, scale);
  const TraceSpan span("product");
  for (int64_t b = 0; b < x.size(0); ++b) {
    at::Tensor result = out.select(0, b);
    at::addmm_out(result, result, x.select(0, b), weight.t(), 1, scale);
  }
  keep_finite(out);
}

Linear Linear::outputs(int64_t first, int64_t count) const {
  const at::Tensor some = bias.defined() ? bias.narrow(0, first, count) : bias;
  if (quantized) return {rows_of(*quantized, first, count), some};
  return {weight.narrow(0, first, count), some};
}

Linear Linear::inputs(int64_t first, int64_t count) const {
  if (!quantized) return {weight.narrow(1, first, count), bias};
  if (std::optional<QuantizedTensor> some = columns_of(*quantized, first, count)) return {*std::move(some), bias};
  return {dequantized(*quantized, at::kFloat).narrow(1, first, count), bias};
}

Linear Linear::converted_for(const at::Tensor& x, WeightBuffer& buffer) const {
  const at::Tensor its_bias = bias.defined() ? bias.to(x.device(), x.scalar_type()) : bias;
  if (!quantized) return {buffer.converted(weight, x), its_bias};
  if (has_quantized_product(x, *quantized)) return {*quantized, its_bias};
  return {buffer.converted(*quantized, x), its_bias};
}

Linear with_exact_products(Linear layer) {
  if (layer.quantized) layer.quantized->exact_products = true;
  return layer;
}

Embedding::Embedding(const Weights& weights, int64_t count, int64_t width, std::string_view name)
    : count(count), table(weights.table(name, {count, width})) {}

at::Tensor Embedding::operator()(const at::Tensor& ids, at::ScalarType dtype) const {
  // Rows are gathered as the checkpoint has them: the table itself is never converted.
  if (!table.quantized) return at::embedding(table.weight, ids.to(table.weight.device())).to(dtype);
  const at::Tensor rows = ids.to(table.quantized->data.device()).flatten();
  const at::Tensor values = dequantized(rows_at(*table.quantized, rows), dtype);
  return values.unflatten(0, ids.sizes());
}

}  // namespace opensora::nn
