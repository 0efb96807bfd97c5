// What transformers do between their matrix products, each in one pass over its tensors and into a given one.
//
// Where a device has kernels of ours (the CPU's are built in, a plug-in brings a GPU's) and they know the dtype and
// layout, those run; otherwise the plain path does, LibTorch's operators one after the other. Statistics and
// rotations are computed in float32 whatever the dtype. On the meta device only shapes count: nothing is allocated
// where a kernel of ours would run.
//
// B batch, L tokens, C width, H heads, D width of a head. The rows of C or D elements of `x` and `out` must be dense
// for our kernels; other strides are free, so slices of buffers do.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

namespace opensora::nn {

// cos and sin of every position's angles.
struct RotaryEmbedding {
  at::Tensor cos, sin;  // [L, D/2], float32
  bool rotate_half;     // pairs are (i, i + D/2); otherwise (2i, 2i + 1)

  RotaryEmbedding slice(int64_t first, int64_t length) const;
};

// out = (1 + scale) * LayerNorm(x) + shift. out, x: [B, L, C], may be the same; shift, scale: [B, 1, C].
void modulated_layer_norm(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale,
                          double eps);

// out = rope(RMSNorm(x) * scale). out, x: [B, L, H, D], may be the same; scale: [D].
void rms_norm_rope(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale, const RotaryEmbedding& rope,
                   double eps);

// In float16, makes what is infinite the largest number: a sum of infinities would be none. Nothing in other dtypes.
void keep_finite(const at::Tensor& x);

// x += gate * y, kept finite. x, y: [B, L, C]; gate: [B, 1, C]. LibTorch has a kernel for this everywhere.
void add_gated(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& y);

// x = gelu(x), with the tanh approximation. x: [B, L, C].
void gelu_tanh(const at::Tensor& x);

// The plain path by itself: what the kernels must agree with.
namespace plain {
void modulated_layer_norm(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale,
                          double eps);
void rms_norm_rope(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale, const RotaryEmbedding& rope,
                   double eps);
void gelu_tanh(const at::Tensor& x);
}  // namespace plain

enum class Ending : int32_t;  // nn/quantize_functors.h

// A device's kernels. Each takes the arguments of the function of its name, with dense rows, and returns false, with
// nothing done, where it has none for their dtype. Null: there is none.
struct FusedKernels {
  bool (*modulated_layer_norm)(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift,
                               const at::Tensor& scale, double eps) = nullptr;
  bool (*rms_norm_rope)(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale,
                        const RotaryEmbedding& rope, double eps) = nullptr;
  bool (*gelu_tanh)(const at::Tensor& x) = nullptr;
  // The passes before and behind a product of 8-bit numbers: see nn/quantized_product.h. Rows of q and sums are dense,
  // and lie one behind the other.
  bool (*quantize_rows)(const at::Tensor& q, const at::Tensor& scale, const at::Tensor& x) = nullptr;
  bool (*rescale_sums)(const at::Tensor& out, const at::Tensor& sums, const at::Tensor& row_scale,
                       const at::Tensor& column_scale, const at::Tensor& bias, double scale, Ending ending) = nullptr;
  // GroupNorm's two passes (nn/norm.h) over x [B, C, T, H, W] whose channels lie innermost in memory. The mean and
  // variance of each group, [B, G]; and out = x * scale + shift, or silu() of it, with scale and shift [B, C]. All four
  // are float32 and dense. The CPU's are in nn/norm.cpp.
  bool (*group_moments)(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& variance) = nullptr;
  bool (*channel_affine)(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift,
                         bool with_silu) = nullptr;
};

// Those that were built for a kind of device: the CPU's, or a plug-in's.
FusedKernels built_kernels(at::DeviceType device);

// Those in use for a kind of device: of those that were built, each that agrees with the plain path on small inputs of
// its own (try_kernels()), which is tried once in a process, when one is first asked for.
FusedKernels& fused_kernels(at::Device device);

// Of a plan's tensor, on the meta device: whether the device that it stands for has kernels of ours, so that they
// allocate nothing.
bool is_planned_with_kernels(const at::Tensor& x);

// A kernel in one dtype.
struct KernelTrial {
  std::string kernel;  // "modulated_layer_norm", …
  at::ScalarType dtype;
  bool has_one = true;  // false: the device has none for this dtype
  double error = 0;     // the largest |kernel - plain| / (1 + |plain|), infinite for NaN
  double limit = 0;     // what the dtype's rounding may amount to
  std::string problem;  // what the kernel threw

  bool agrees() const { return !has_one || (problem.empty() && error <= limit); }
};

// Runs each of `kernels` on small inputs of its own, drawn anew but the same each time, in float32, bfloat16 and
// float16: rows that are slices of a buffer, and of a length that is no multiple of a vector's. Milliseconds.
std::vector<KernelTrial> try_kernels(const FusedKernels& kernels, at::Device device);

// `kernels` without those that disagree in any dtype; each of those is a warning.
FusedKernels agreeing_kernels(FusedKernels kernels, at::Device device);

}  // namespace opensora::nn
