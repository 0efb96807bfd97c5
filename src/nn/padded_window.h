// A stretch of frames with a border, for convolutions that run in chunks of time.
#pragma once

#include <ATen/ATen.h>

#include <functional>

namespace opensora::nn {

// Frames come in order, a chunk at a time; each chunk is seen behind the last frames of the one before, with a border
// of one pixel that replicates the edge. Before the first frame stands that frame itself.
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

}  // namespace opensora::nn
