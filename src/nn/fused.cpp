#include "nn/fused.h"

#include "core/trace.h"
#include "nn/fused_check.h"
#include "nn/fused_cpu.h"
#include "nn/fused_cuda.h"

namespace opensora::nn {
namespace {

bool are_dense_rows(const at::Tensor& x) { return x.stride(-1) == 1; }

// Turns x [B, L, H, D] in float32, with every step a tensor of its own.
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
  at::Tensor result = x;  // the same tensor: at::gelu_ takes no const one
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
  // All others share one place: a process has one kind of accelerator.
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

}  // namespace opensora::nn
