// Convolution with zero padding, and nearest-neighbour enlargement.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "core/weights.h"

namespace opensora::nn {

struct ConvOptions {
  int64_t in_channels, out_channels;
  int64_t kernel_size = 3;           // odd, the same along every dimension
  std::vector<int64_t> stride = {};  // empty: 1 along every dimension
  int64_t groups = 1;
  bool bias = true;
  bool pad = true;  // by half a kernel on either side: stride 1 keeps the size
};

// [B, in, spatial...] -> [B, out, spatial...]. The weight keeps the checkpoint's dtype; where that is not x's it is
// converted as the layer runs.
struct Conv {
  at::Tensor weight;  // [out, in / groups, k, ...]
  at::Tensor bias;    // [out], or undefined
  std::vector<int64_t> stride, padding;
  int64_t groups;

  // `dims`: spatial dimensions, 2 or 3.
  Conv(const Weights& weights, int64_t dims, const ConvOptions& options);
  // The result of a kernel of 3x3x3 that WinogradConv is for has its channels innermost in memory.
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  bool runs_in_parts(const at::Tensor& x) const;
  at::Tensor run_in_parts(const at::Tensor& x) const;
};

// Repeats each element of the last factors.size() dimensions, factors[i] times along the i-th of them.
at::Tensor upsample_nearest(const at::Tensor& x, at::IntArrayRef factors);

}  // namespace opensora::nn
