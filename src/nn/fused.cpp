#include "nn/fused.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/cuda_plugin.h"
#include "core/device.h"
#include "core/meta_device.h"
#include "core/trace.h"
#include "nn/fused_kernels.h"

namespace opensora::nn {
namespace {

bool are_dense_rows(const at::Tensor& x) { return x.stride(-1) == 1; }

// Calls work(first, count) for parts of x's tokens, few enough for the float32 copies of them that the plain path makes
// to stay small beside what a run holds.
template <typename Work>
void for_parts(const at::Tensor& x, Work&& work) {
  constexpr int64_t kElements = int64_t{8} << 20;
  const int64_t length = x.size(1), step = std::max<int64_t>(1, kElements * length / std::max<int64_t>(1, x.numel()));
  for (int64_t first = 0; first < length; first += step) work(first, std::min(step, length - first));
}

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

bool is_planned_with_kernels(const at::Tensor& x) {
  if (!x.is_meta()) return false;
  const at::DeviceType device = kernel_device(x);
  if (device == at::kCPU) return x.scalar_type() != at::kHalf;
  if (device != at::kCUDA) return device == at::kMeta;  // on its own, without a plan
  // For a GPU that is elsewhere, the plug-in is taken to be there.
  const std::string plugin = cuda_plugin_state();
  return plugin == "loaded" || plugin == "built" || nvidia_gpu_count() == 0;
}

RotaryEmbedding RotaryEmbedding::slice(int64_t first, int64_t length) const {
  return {cos.narrow(0, first, length), sin.narrow(0, first, length), rotate_half};
}

void plain::modulated_layer_norm(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift,
                                 const at::Tensor& scale, double eps) {
  for_parts(x, [&](int64_t first, int64_t count) {
    const at::Tensor normed = at::layer_norm(x.narrow(1, first, count), {x.size(-1)}, {}, {}, eps);
    out.narrow(1, first, count).copy_(normed.mul_(1 + scale).add_(shift));
  });
}

void plain::rms_norm_rope(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale,
                          const RotaryEmbedding& rope, double eps) {
  for_parts(x, [&](int64_t first, int64_t count) {
    const at::Tensor wide = x.narrow(1, first, count).to(at::kFloat);
    const at::Tensor inverse_rms = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
    const at::Tensor normed = (wide * inverse_rms).to(x.scalar_type()) * scale;
    out.narrow(1, first, count).copy_(rotated(normed, rope.slice(first, count)));
  });
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
  if (is_planned_with_kernels(out)) return count_pass({x, out});
  if (out.is_meta()) return plain::modulated_layer_norm(out, x, shift, scale, eps);
  const TraceSpan span("modulated_layer_norm");
  const auto kernel = fused_kernels(out.device()).modulated_layer_norm;
  const bool fits = are_dense_rows(out) && are_dense_rows(x) && are_dense_rows(shift) && are_dense_rows(scale);
  if (kernel != nullptr && fits && kernel(out, x, shift, scale, eps)) return;
  plain::modulated_layer_norm(out, x, shift, scale, eps);
}

void rms_norm_rope(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale, const RotaryEmbedding& rope,
                   double eps) {
  if (is_planned_with_kernels(out)) return count_pass({x, out});
  if (out.is_meta()) return plain::rms_norm_rope(out, x, scale, rope, eps);
  const TraceSpan span("rms_norm_rope");
  const auto kernel = fused_kernels(out.device()).rms_norm_rope;
  const bool fits = are_dense_rows(out) && are_dense_rows(x) && scale.is_contiguous() && rope.cos.is_contiguous() &&
                    rope.sin.is_contiguous();
  if (kernel != nullptr && fits && kernel(out, x, scale, rope, eps)) return;
  plain::rms_norm_rope(out, x, scale, rope, eps);
}

void keep_finite(const at::Tensor& x) {
  constexpr double kLargestHalf = 65504;
  if (x.scalar_type() == at::kHalf) x.clamp_(-kLargestHalf, kLargestHalf);
}

void add_gated(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& y) {
  x.addcmul_(gate, y);
  keep_finite(x);
}

void gelu_tanh(const at::Tensor& x) {
  if (x.is_meta()) return count_pass({x, x});
  const TraceSpan span("gelu_tanh");
  const auto kernel = fused_kernels(x.device()).gelu_tanh;
  if (kernel != nullptr && are_dense_rows(x) && kernel(x)) return;
  plain::gelu_tanh(x);
}

}  // namespace opensora::nn
