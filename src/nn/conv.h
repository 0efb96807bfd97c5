// Convolution: with zero padding, of inputs that carry their own border, and in chunks of time; and nearest-neighbour
// enlargement.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <optional>
#include <vector>

#include "core/weights.h"
#include "nn/winograd.h"

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
  // The result of a kernel of 3x3x3 that WinogradConv is for has its channels innermost in memory; on a GPU, so have
  // all of videos, but those of convolutions in groups.
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  bool runs_in_parts(const at::Tensor& x) const;
  at::Tensor run_in_parts(const at::Tensor& x) const;
};

// Repeats each element of the last factors.size() dimensions, factors[i] times along the i-th of them. Frames
// [B, C, T, H, W] whose channels lie innermost in memory stay so.
at::Tensor upsample_nearest(const at::Tensor& x, at::IntArrayRef factors);

// A stretch of frames with a border, for convolutions that run in chunks of time. Frames come in order; each chunk is
// seen behind the last frames of the one before, with a border of one pixel that replicates the edge. Before the first
// frame stands that frame itself.
class PaddedWindow {
 public:
  // For frames like x's [B, C, T, H, W], at most `chunk` at a time, behind `history` of them.
  PaddedWindow(const at::Tensor& x, int64_t chunk, int64_t history);

  // `fill` writes `count` new frames to the tensor [B, C, count, H, W] that it is given. Returns
  // [B, C, history + count, H + 2, W + 2] with the channels innermost in memory, valid until the next call.
  at::Tensor push(int64_t count, const std::function<void(const at::Tensor& frames)>& fill);

 private:
  int64_t history_, filled_ = 0;
  at::Tensor buffer_;
};

// How many of x's frames a layer takes at a time: the more, the less is done twice, and the more memory it takes.
int64_t frames_at_a_time(const at::Tensor& x);

// Uninitialised, with x's dtype and device, and the channels innermost in memory.
at::Tensor empty_channels_last(const at::Tensor& x, at::IntArrayRef shape);

// A convolution of inputs that carry their own border, by the fastest way that there is for them. What it needs of the
// weights is made once, for all the parts of an input: its life is a layer's run.
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
  bool adds_bias_ = false;  // itself, as it writes: a GPU's kernels would in a pass of its own
  std::vector<int64_t> stride_;
};

}  // namespace opensora::nn
