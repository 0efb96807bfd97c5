// A convolution of inputs that carry their own border, by the fastest way that there is for them.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "nn/winograd.h"

namespace opensora::nn {

// What it needs of the weights is made once, for all the parts of an input: its life is a layer's run.
class PaddedConv {
 public:
  // `weight` [out, in, kt, kh, kw] and `bias` [out] are converted to the dtype of `x`, whose like will be convolved, or
  // to that in which its convolutions are done.
  PaddedConv(const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& x, at::IntArrayRef stride);

  // `padded` -> `out`, both [B, C, T, H, W] with the channels innermost in memory: written over, or added to.
  void operator()(const at::Tensor& padded, const at::Tensor& out, bool add = false) const;

 private:
  std::optional<WinogradConv> winograd_;
  at::Tensor weight_, bias_;
  std::vector<int64_t> stride_;
};

}  // namespace opensora::nn
