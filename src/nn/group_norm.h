// GroupNorm in two passes, so that what follows it can run over parts of the frames: statistics of the whole, then
// scale and shift of each part.
#pragma once

#include <ATen/ATen.h>

#include "core/weights.h"

namespace opensora::nn {

// What a norm does to each channel once its statistics are known: x * scale + shift.
struct ChannelAffine {
  at::Tensor scale, shift;  // [B, C], float32
};

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

enum class Activation { kNone, kSilu };

// out = activation(x * scale + shift), for x and out [B, C, T, H, W] of one shape; they may be the same.
void apply_affine(const at::Tensor& x, const ChannelAffine& affine, Activation activation, const at::Tensor& out);

}  // namespace opensora::nn
