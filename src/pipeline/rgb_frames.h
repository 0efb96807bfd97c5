// Decoded pieces, put together as frames of 8 bits.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "autoencoder/tiling.h"

namespace opensora::pipeline {

// The size that is wanted: what the decoder makes beyond it is cut off.
struct FrameSize {
  int64_t frames, height, width;
};

// A piece is checked and becomes 8 bits as it comes, so that of a video in float there is never more than a tile. As
// soon as some frames are whole, they are handed on.
class RgbFrames {
 public:
  // `done` is given the next frames, uint8 [t, H, W, 3] on the pieces' device. `what` names them where they are not
  // finite.
  RgbFrames(const FrameSize& size, std::string what, std::function<void(const at::Tensor& frames)> done);

  // Throws NumericError if any value of the piece is not finite, whether or not it is cut off.
  void add(const autoencoder::Piece& piece);

 private:
  FrameSize size_;
  std::string what_;
  std::function<void(const at::Tensor& frames)> done_;
  at::Tensor frames_;  // under construction
};

}  // namespace opensora::pipeline
