#include "nn/fused.h"

#include <ATen/CPUGeneratorImpl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/trace.h"
#include "nn/fused_kernels.h"

namespace opensora::nn {
namespace {

bool are_dense_rows(const at::Tensor& x) { return x.stride(-1) == 1; }

// Rotates x [B, L, H, D] in float32; every step makes a tensor of its own.
at::Tensor rotated(const at::Tensor& x, const RotaryEmbedding& rope) {
  const at::Tensor cos = rope.cos.unsqueeze(1);  // [L, 1, D/2], broadcast over heads
  const at::Tensor sin = rope.sin.unsqueeze(1);
  const at::Tensor wide = x.to(at::kFloat);
  if (rope.rotate_half) {
    const std::vector<at::Tensor> half = wide.chunk(2, -1);
    return at::cat({half[0] * cos - half[1] * sin, half[1] * cos + half[0] * sin}, -1);
  }
  const at::Tensor pairs = wide.unflatten(-1, {-1, 2});  // [B, L, H, D/2, 2]
  const at::Tensor even = pairs.select(-1, 0), odd = pairs.select(-1, 1);
  return at::stack({even * cos - odd * sin, odd * cos + even * sin}, -1).flatten(-2);
}

}  // namespace

RotaryEmbedding RotaryEmbedding::slice(int64_t first, int64_t length) const {
  return {cos.narrow(0, first, length), sin.narrow(0, first, length), rotate_half};
}

void plain::modulated_layer_norm(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift,
                                 const at::Tensor& scale, double eps) {
  const at::Tensor normed = at::layer_norm(x, {x.size(-1)}, {}, {}, eps);
  out.copy_(normed.mul_(1 + scale).add_(shift));
}

void plain::rms_norm_rope(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale,
                          const RotaryEmbedding& rope, double eps) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor inverse_rms = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  out.copy_(rotated((wide * inverse_rms).to(x.scalar_type()) * scale, rope));
}

void plain::gelu_tanh(const at::Tensor& x) {
  at::Tensor result = x;  // the same tensor, as at::gelu_ takes no const reference
  at::gelu_(result, "tanh");
}

FusedKernels built_kernels(at::DeviceType device) {
  return device == at::kCPU ? cpu_kernels() : device == at::kCUDA ? cuda_kernels() : FusedKernels{};
}

FusedKernels& fused_kernels(at::Device device) {
  if (device.is_cpu()) {
    static FusedKernels cpu = agreeing_kernels(built_kernels(at::kCPU), at::kCPU);
    return cpu;
  }
  // All other devices share one place, since a process has one kind of accelerator.
  static FusedKernels accelerator = agreeing_kernels(built_kernels(device.type()), device);
  return accelerator;
}

void modulated_layer_norm(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale,
                          double eps) {
  if (out.is_meta()) return;
  const TraceSpan span("modulated_layer_norm");
  const auto kernel = fused_kernels(out.device()).modulated_layer_norm;
  const bool fits = are_dense_rows(out) && are_dense_rows(x) && are_dense_rows(shift) && are_dense_rows(scale);
  if (kernel != nullptr && fits && kernel(out, x, shift, scale, eps)) return;
  plain::modulated_layer_norm(out, x, shift, scale, eps);
}

void rms_norm_rope(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale, const RotaryEmbedding& rope,
                   double eps) {
  if (out.is_meta()) return;
  const TraceSpan span("rms_norm_rope");
  const auto kernel = fused_kernels(out.device()).rms_norm_rope;
  const bool fits = are_dense_rows(out) && are_dense_rows(x) && scale.is_contiguous() && rope.cos.is_contiguous() &&
                    rope.sin.is_contiguous();
  if (kernel != nullptr && fits && kernel(out, x, scale, rope, eps)) return;
  plain::rms_norm_rope(out, x, scale, rope, eps);
}

void add_gated(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& y) { x.addcmul_(gate, y); }

void gelu_tanh(const at::Tensor& x) {
  if (x.is_meta()) return;
  const TraceSpan span("gelu_tanh");
  const auto kernel = fused_kernels(x.device()).gelu_tanh;
  if (kernel != nullptr && are_dense_rows(x) && kernel(x)) return;
  plain::gelu_tanh(x);
}

namespace {

constexpr double kEps = 1e-6;
constexpr int64_t kItems = 2, kTokens = 5, kWidth = 3 * 38;  // B, L, C

// Draws inputs and runs one kernel and the plain path on them.
class Trial {
 public:
  Trial(at::Device device, at::ScalarType dtype) : device_(device), dtype_(dtype) {}

  at::Tensor random(at::IntArrayRef shape) {
    return (at::randn(shape, generator_, at::TensorOptions()) * 2 + 0.5).to(device_, dtype_);
  }
  RotaryEmbedding rope(int64_t width, bool rotate_half) {
    const at::Tensor angles = at::randn({kTokens, width / 2}, generator_, at::TensorOptions());
    return {angles.cos().to(device_), angles.sin().to(device_), rotate_half};
  }

  // Each of the two functions gets a copy of `x`, in which it leaves its result.
  void compare(const at::Tensor& x, const std::function<bool(const at::Tensor&)>& kernel,
               const std::function<void(const at::Tensor&)>& plain) {
    const at::Tensor actual = x.clone(), expected = x.clone();
    has_one = kernel(actual);
    if (!has_one) return;
    plain(expected);
    const at::Tensor a = actual.to(at::kCPU).to(at::kDouble), b = expected.to(at::kCPU).to(at::kDouble);
    const double largest = ((a - b).abs() / (1 + b.abs())).max().item<double>();
    error = std::max(error, std::isnan(largest) ? std::numeric_limits<double>::infinity() : largest);
  }

  bool has_one = true;
  double error = 0;

 private:
  at::Device device_;
  at::ScalarType dtype_;
  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>(1);
};

// Columns in the middle of a buffer, as models have them.
at::Tensor middle(const at::Tensor& buffer) { return buffer.narrow(2, kWidth, kWidth); }

void try_modulated_layer_norm(const FusedKernels& kernels, Trial& trial) {
  const at::Tensor x = trial.random({kItems, kTokens, 3 * kWidth}), modulation = trial.random({kItems, 2, kWidth});
  const at::Tensor shift = modulation.narrow(1, 0, 1), scale = modulation.narrow(1, 1, 1);
  trial.compare(
      x, [&](const at::Tensor& y) { return kernels.modulated_layer_norm(middle(y), middle(x), shift, scale, kEps); },
      [&](const at::Tensor& y) { plain::modulated_layer_norm(middle(y), middle(x), shift, scale, kEps); });
}

void try_rms_norm_rope(const FusedKernels& kernels, Trial& trial) {
  constexpr int64_t kHeads = 3, kHeadWidth = kWidth / kHeads;
  const auto heads = [](const at::Tensor& buffer) { return middle(buffer).unflatten(2, {kHeads, kHeadWidth}); };
  const at::Tensor x = trial.random({kItems, kTokens, 3 * kWidth}), scale = trial.random({kHeadWidth});
  for (const bool rotate_half : {true, false}) {
    const RotaryEmbedding rope = trial.rope(kHeadWidth, rotate_half);
    trial.compare(
        x, [&](const at::Tensor& y) { return kernels.rms_norm_rope(heads(y), heads(y), scale, rope, kEps); },
        [&](const at::Tensor& y) { plain::rms_norm_rope(heads(y), heads(x), scale, rope, kEps); });
  }
}

void try_gelu_tanh(const FusedKernels& kernels, Trial& trial) {
  const at::Tensor x = trial.random({kItems, kTokens, 3 * kWidth});
  trial.compare(
      x, [&](const at::Tensor& y) { return kernels.gelu_tanh(middle(y)); },
      [&](const at::Tensor& y) { plain::gelu_tanh(middle(y)); });
}

KernelTrial try_kernel(const char* name, void (*run)(const FusedKernels&, Trial&), const FusedKernels& kernels,
                       at::Device device, at::ScalarType dtype) {
  // The plain path rounds to the dtype several times, and values reach about 20.
  const double limit = dtype == at::kFloat ? 1e-5 : dtype == at::kHalf ? 1e-2 : 8e-2;
  KernelTrial result{.kernel = name, .dtype = dtype, .limit = limit, .problem = {}};
  try {
    Trial trial(device, dtype);
    run(kernels, trial);
    result.has_one = trial.has_one;
    result.error = trial.error;
  } catch (const std::exception& error) {
    result.problem = error.what();
    result.problem.resize(std::min(result.problem.size(), result.problem.find('\n')));
  }
  return result;
}

}  // namespace

std::vector<KernelTrial> try_kernels(const FusedKernels& kernels, at::Device device) {
  std::vector<KernelTrial> trials;
  const auto add = [&](bool exists, const char* name, void (*run)(const FusedKernels&, Trial&)) {
    if (!exists) return;
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      trials.push_back(try_kernel(name, run, kernels, device, dtype));
    }
  };
  add(kernels.modulated_layer_norm != nullptr, "modulated_layer_norm", try_modulated_layer_norm);
  add(kernels.rms_norm_rope != nullptr, "rms_norm_rope", try_rms_norm_rope);
  add(kernels.gelu_tanh != nullptr, "gelu_tanh", try_gelu_tanh);
  return trials;
}

FusedKernels agreeing_kernels(FusedKernels kernels, at::Device device) {
  for (const KernelTrial& trial : try_kernels(kernels, device)) {
    if (trial.agrees()) continue;
    const std::string what =
        trial.problem.empty() ? fmt::format("differs by {:.1e}, at most {:.1e} is rounding", trial.error, trial.limit)
                              : trial.problem;
    spdlog::warn("the fused kernel {} is switched off on {}: in {} it {}", trial.kernel, device.str(),
                 toString(trial.dtype), what);
    if (trial.kernel == "modulated_layer_norm") kernels.modulated_layer_norm = nullptr;
    if (trial.kernel == "rms_norm_rope") kernels.rms_norm_rope = nullptr;
    if (trial.kernel == "gelu_tanh") kernels.gelu_tanh = nullptr;
  }
  return kernels;
}

}  // namespace opensora::nn
