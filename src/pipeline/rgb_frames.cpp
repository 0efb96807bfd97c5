#include "pipeline/rgb_frames.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "pipeline/frames.h"

namespace opensora::pipeline {

RgbFrames::RgbFrames(const FrameSize& size, std::string what, std::function<void(const at::Tensor& frames)> done)
    : size_(size), what_(std::move(what)), done_(std::move(done)) {}

void RgbFrames::add(const autoencoder::Piece& piece) {
  check_finite_frames(piece.values, what_);
  const int64_t frames = std::min(piece.values.size(2), size_.frames - piece.t);
  if (frames <= 0) return;
  if (!frames_.defined()) {
    frames_ = at::empty({frames, size_.height, size_.width, 3}, piece.values.options().dtype(at::kByte));
  }
  const int64_t height = std::min(piece.values.size(3), size_.height - piece.y);
  const int64_t width = std::min(piece.values.size(4), size_.width - piece.x);
  if (height > 0 && width > 0) {
    const at::Tensor values = piece.values.narrow(3, 0, height).narrow(4, 0, width);
    const at::Tensor place = frames_.narrow(1, piece.y, height).narrow(2, piece.x, width);
    for (int64_t t = 0; t < frames; ++t) place[t].copy_(rgb24_on_device(values, t));
  }
  if (!piece.ends_frames()) return;
  const at::Device device = frames_.device();
  // They are read on another stream. Only this one is waited for: another thread's may be recording a graph.
  if (device.is_cuda()) c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
  done_(std::exchange(frames_, {}));
}

}  // namespace opensora::pipeline
