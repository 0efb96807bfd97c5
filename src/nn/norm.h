// Normalisation layers, and the activation that follows some of them. Statistics are computed in float32 whatever the
// input's dtype.
#pragma once

#include <ATen/ATen.h>

#include <utility>

#include "core/weights.h"

namespace opensora::nn {

struct LayerNorm {
  at::Tensor weight, bias;  // [width]
  double eps;

  LayerNorm(const Weights& weights, int64_t width, double eps);
  at::Tensor operator()(const at::Tensor& x) const;
};

// x / sqrt(mean(x^2) + eps) * scale over the last dimension; no mean is subtracted.
struct RMSNorm {
  at::Tensor scale;  // [width]
  double eps;

  // `name`: the checkpoint's word for the scale ("scale" in the transformer, "weight" in T5).
  RMSNorm(const Weights& weights, int64_t width, double eps, std::string_view name);
  at::Tensor operator()(const at::Tensor& x) const;
};

// Writes over its argument: for tensors that nothing else holds.
inline at::Tensor silu_in_place(at::Tensor x) { return at::silu_(x); }

// What a norm does to each channel once its statistics are known: x * scale + shift.
struct ChannelAffine {
  at::Tensor scale, shift;  // [B, C], float32
};

// In two passes, so that what follows it can run over parts of the frames: statistics of the whole, then scale and
// shift of each part.
struct GroupNorm {
  at::Tensor weight, bias;  // [channels]
  int64_t groups;
  double eps;

  GroupNorm(const Weights& weights, int64_t channels, int64_t groups, double eps);
  at::Tensor operator()(const at::Tensor& x) const;  // [B, C, ...]

  // Of x [B, C, T, H, W], over all frames; the channels lie innermost in memory. In float32 whatever x's dtype, the
  // variance from differences to the mean; the same on any number of threads.
  ChannelAffine affine(const at::Tensor& x) const;
};

// out = x * scale + shift, for x and out [B, C, T, H, W] of one shape; they may be the same.
void apply_affine(const at::Tensor& x, const ChannelAffine& affine, const at::Tensor& out);
// out = silu(x * scale + shift)
void apply_affine_silu(const at::Tensor& x, const ChannelAffine& affine, const at::Tensor& out);

// LibTorch's operators by themselves: what kernels must agree with (nn/fused.h).
namespace plain {
// The mean and the variance of each group, both [B, G] in float32, on parts of the frames.
std::pair<at::Tensor, at::Tensor> group_moments(const at::Tensor& x, int64_t groups);
void apply_affine(const at::Tensor& x, const ChannelAffine& affine, const at::Tensor& out, bool with_silu);
}  // namespace plain

}  // namespace opensora::nn
