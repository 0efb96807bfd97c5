#include "nn/attention_fp8.h"

#include <c10/core/DeviceGuard.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/cuda_plugin.h"
#include "core/quantized.h"
#include "core/text.h"
#include "core/trace.h"
#include "nn/attention.h"

namespace opensora::nn {
namespace {

// The power of two by which x is multiplied, so that its largest number nearly is e4m3's: exact in every dtype, as it
// is kept within float16's range, and a format with an exponent gains nothing by the rest. `dims`: each slice over them
// has a power of its own.
at::Tensor power_for(const at::Tensor& x, at::IntArrayRef dims) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kTiny = 1e-30;
  const at::Tensor top = at::linalg_vector_norm(x, kInfinity, dims, /*keepdim=*/true, at::kFloat);
  return at::exp2(at::floor(at::log2(kLargestE4M3 / top.clamp_min(kTiny))).clamp(-15, 15));
}

// x * power as e4m3, laid out as [B, L, H, D]; x holds it too, afterwards. Beyond the largest number e4m3 has only NaN.
at::Tensor as_fp8(const at::Tensor& x, const at::Tensor& power) {
  const at::Tensor out = at::empty({x.size(0), x.size(2), x.size(1), x.size(3)}, x.options().dtype(at::kFloat8_e4m3fn));
  out.copy_(x.mul_(power.to(x.scalar_type())).transpose(1, 2));
  return out.transpose(1, 2);
}

at::Tensor subtract_mean(const at::Tensor& x) {
  at::Tensor mean = x.mean(at::IntArrayRef{2}, /*keepdim=*/true, at::kFloat).to(x.scalar_type());  // [B, H, 1, D]
  x.sub_(mean);
  return mean;
}

at::Tensor unit_of(const at::Tensor& power) { return power.reciprocal().flatten(); }

}  // namespace

Fp8Operands to_fp8(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Smoothing& smoothing) {
  Fp8Operands operands;
  if (smoothing.keys) subtract_mean(k);
  if (smoothing.values) operands.v_mean = subtract_mean(v);
  const at::Tensor q_power = power_for(q, {0, 1, 2, 3}), k_power = power_for(k, {0, 1, 2, 3});
  const at::Tensor v_power = power_for(v, {2, 3});
  operands.q = as_fp8(q, q_power);
  operands.k = as_fp8(k, k_power);
  operands.v = as_fp8(v, v_power);
  operands.q_unit = unit_of(q_power);
  operands.k_unit = unit_of(k_power);
  operands.v_unit = v_power.reciprocal().to(v.scalar_type());
  return operands;
}

at::Tensor emulated_fp8_attention(const Fp8Operands& operands, double scale) {
  constexpr int64_t kRows = 512;  // queries at a time
  const at::Tensor &q = operands.q, k = operands.k.to(at::kFloat), v = operands.v.to(at::kFloat);
  const at::Tensor unit = operands.q_unit * operands.k_unit * scale;
  const int64_t length = q.size(2);
  const at::Tensor out = at::empty({q.size(0), length, q.size(1), q.size(3)}, q.options()).transpose(1, 2);
  for (int64_t first = 0; first < length; first += kRows) {
    const int64_t count = std::min(kRows, length - first);
    const at::Tensor scores = q.narrow(2, first, count).to(at::kFloat).matmul(k.transpose(2, 3)).mul_(unit);
    const at::Tensor weights = scores.sub_(scores.amax(-1, /*keepdim=*/true)).exp_();
    const at::Tensor sums = weights.sum(-1, /*keepdim=*/true);
    const at::Tensor rounded = weights.mul_(kWeightScale).to(at::kFloat8_e4m3fn).to(at::kFloat);
    const at::Tensor rows = rounded.matmul(v).div_(sums.mul_(kWeightScale));
    out.narrow(2, first, count).copy_(rows.clamp_(-kLargestE4M3, kLargestE4M3));
  }
  return out;
}

at::Tensor fp8_attention(const Fp8Kernel& kernel, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const Smoothing& smoothing) {
  const TraceSpan span("fp8_attention");
  Fp8Operands operands = to_fp8(q, k, v, smoothing);
  at::Tensor out = kernel(operands, 1 / std::sqrt(static_cast<double>(q.size(-1))));
  for (at::Tensor* x : {&operands.q, &operands.k, &operands.v}) x->reset();
  out = out.to(q.scalar_type()).mul_(operands.v_unit);
  return operands.v_mean.defined() ? out.add_(operands.v_mean) : out;
}

namespace {

using Call = CudaPlugin::Fp8Attention;
using Support = CudaPlugin::Fp8Support;

// By the plug-in, whose scales must lie on the device: they are filled there once, as a graph may be recorded later.
class CudnnFp8Attention {
 public:
  CudnnFp8Attention(at::Device device, Support support)
      : is_wide_(support == Support::kWideOutput),
        constants_(at::empty({3}, at::TensorOptions().device(device).dtype(at::kFloat))) {
    constants_[0].fill_(1);
    constants_[1].fill_(kWeightScale);
    constants_[2].fill_(1 / kWeightScale);
  }

  at::Tensor operator()(const Fp8Operands& x, double scale) const {
    const c10::DeviceGuard guard(x.q.device());
    const at::Tensor out = at::empty({x.q.size(0), x.q.size(2), x.q.size(1), x.q.size(3)},
                                     x.q.options().dtype(is_wide_ ? at::kBFloat16 : at::kFloat8_e4m3fn));
    const auto* constants = constants_.const_data_ptr<float>();
    cuda_plugin()->fp8_attention(Call{.q = x.q.const_data_ptr(),
                                      .k = x.k.const_data_ptr(),
                                      .v = x.v.const_data_ptr(),
                                      .q_unit = x.q_unit.const_data_ptr<float>(),
                                      .k_unit = x.k_unit.const_data_ptr<float>(),
                                      .one = constants,
                                      .weight_scale = constants + 1,
                                      .weight_unit = constants + 2,
                                      .out = out.mutable_data_ptr(),
                                      .has_wide_output = is_wide_,
                                      .batch = x.q.size(0),
                                      .heads = x.q.size(1),
                                      .queries = x.q.size(2),
                                      .keys = x.k.size(2),
                                      .width = x.q.size(3),
                                      .scale = scale});
    return out.transpose(1, 2);
  }

 private:
  bool is_wide_;
  at::Tensor constants_;
};

Fp8Choice cuda_fp8_kernel(at::Device device) {
  const CudaPlugin* plugin = cuda_plugin();
  if (plugin == nullptr || plugin->fp8_attention == nullptr) {
    return {{}, "the CUDA plug-in has none: it was built without cuDNN's headers, or is not there"};
  }
  const c10::DeviceGuard guard(device);
  const Support support = plugin->fp8_support();
  if (support == Support::kNone) return {{}, "it takes a GPU of compute capability 9.0 or 10.x (H100, H200, B200)"};
  return {CudnnFp8Attention(device, support), {}};
}

}  // namespace

Fp8Kernel& simulated_fp8_kernel() {
  static Fp8Kernel kernel;
  return kernel;
}

Fp8Choice fp8_kernel(at::Device device) {
  if (device.is_cuda()) return cuda_fp8_kernel(device);
  if (!device.is_cpu() && simulated_fp8_kernel()) return {simulated_fp8_kernel(), {}};
  return {{}, "it takes a GPU of compute capability 9.0 or 10.x (H100, H200, B200)"};
}

StepRange fp8_steps(int64_t steps) {
  const int64_t first = std::max<int64_t>(2, (steps + 9) / 10);
  return {.first = first, .end = std::max(first, steps - 1)};
}

namespace {

// What a GPU would compute and hold: in the check, which is when most is there, also the exact result.
at::Tensor planned_fp8_attention(const Fp8Operands& x, double scale) {
  const at::Tensor exact = at::empty(x.q.sizes(), x.q.options().dtype(at::kBFloat16));
  return at::scaled_dot_product_attention(x.q, x.k, x.v, {}, 0.0, false, scale);
}

// Of so many tokens at most: what a layer gets wrong shows in some.
constexpr int64_t kCheckedTokens = 1024;

at::Tensor some_tokens(const at::Tensor& x) {
  const int64_t every = std::max<int64_t>(1, x.size(2) / kCheckedTokens);
  return x.slice(2, 0, x.size(2), every).to(at::kFloat);
}

// From what checked() keeps.
Fp8Agreement agreement_of(const at::Tensor& check) {
  const auto* sums = check.const_data_ptr<float>();
  const double ours = sums[0], exact = sums[1], both = sums[2];
  return {.error = std::sqrt(std::max(0.0, ours + exact - 2 * both) / exact), .cosine = both / std::sqrt(ours * exact)};
}

}  // namespace

Fp8Attention::Fp8Attention(Fp8Kernel kernel, int64_t layers, StepRange steps, const Smoothing& smoothing)
    : kernel_(std::move(kernel)), steps_(steps), smoothing_(smoothing), passed_(layers, false), checks_(layers) {}

Fp8Attention Fp8Attention::planned(int64_t layers, StepRange steps) {
  Fp8Attention attention(planned_fp8_attention, layers, steps);
  attention.passed_.assign(layers, true);
  attention.settled_ = true;
  return attention;
}

at::Tensor Fp8Attention::operator()(int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (!settled_) return checked(layer, q, k, v);
  return passed_[layer] ? fp8_attention(kernel_, q, k, v, smoothing_) : attention(q, k, v);
}

// Keeps |8 bits|^2, |exact|^2 and their product.
at::Tensor Fp8Attention::checked(int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  at::Tensor exact = attention(q, k, v);
  if (!problem_.empty()) return exact;
  try {
    const at::Tensor ours = some_tokens(fp8_attention(kernel_, q, k, v, smoothing_)), expected = some_tokens(exact);
    checks_[layer] = at::stack({ours.square().sum(), expected.square().sum(), (ours * expected).sum()});
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    problem_ = first_line(error.what_without_backtrace());
  }
  return exact;
}

void Fp8Attention::settle() {
  if (std::exchange(settled_, true)) return;
  if (!problem_.empty()) {
    spdlog::warn("attention in 8 bits is not used, its kernel failed: {}", problem_);
    checks_.clear();
    return;
  }
  const at::Tensor checks = at::stack(checks_).to(at::kCPU);  // throws where a layer did not run
  checks_.clear();
  double worst = 0;
  for (size_t layer = 0; layer < passed_.size(); ++layer) {
    const Fp8Agreement found = agreements_.emplace_back(agreement_of(checks[static_cast<int64_t>(layer)]));
    spdlog::debug("attention of layer {} in 8 bits: error {:.3f}, cosine {:.5f}", layer, found.error, found.cosine);
    passed_[layer] = found.is_enough();
    if (passed_[layer]) worst = std::max(worst, found.error);
  }
  spdlog::info("attention: {}, each off by at most {:.3f}, in steps {} to {}", summary(), worst, steps_.first + 1,
               steps_.end);
}

int64_t Fp8Attention::layers_in_8_bits() const { return std::count(passed_.begin(), passed_.end(), true); }

std::string Fp8Attention::summary() const {
  return fmt::format("fp8 in {} of {} layers", layers_in_8_bits(), passed_.size());
}

at::Tensor AttentionLayer::operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const {
  return fp8 == nullptr ? attention(q, k, v) : (*fp8)(index, q, k, v);
}

}  // namespace opensora::nn
