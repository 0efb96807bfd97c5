#include "nn/padded_window.h"

#include <algorithm>

namespace opensora::nn {

int64_t frames_at_a_time(const at::Tensor& x) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const int64_t frames = x.size(2), frame_bytes = static_cast<int64_t>(x.nbytes()) / frames;
  return std::clamp<int64_t>(kBytes / frame_bytes, std::min<int64_t>(2, frames), frames);
}

at::Tensor empty_channels_last(const at::Tensor& x, at::IntArrayRef shape) {
  return at::empty(shape, x.options(), at::MemoryFormat::ChannelsLast3d);
}

PaddedWindow::PaddedWindow(const at::Tensor& x, int64_t chunk, int64_t history)
    : history_(history),
      buffer_(empty_channels_last(x, {x.size(0), x.size(1), history + chunk, x.size(3) + 2, x.size(4) + 2})) {}

at::Tensor PaddedWindow::push(int64_t count, const std::function<void(const at::Tensor& frames)>& fill) {
  const auto frame = [&](int64_t t) { return buffer_.select(2, t); };
  const bool is_first = filled_ == 0;
  for (int64_t t = 0; t < history_ && !is_first; ++t) frame(t).copy_(frame(t + filled_));
  filled_ = count;

  const int64_t height = buffer_.size(3) - 2, width = buffer_.size(4) - 2;
  const at::Tensor added = buffer_.narrow(2, history_, count), rows = added.narrow(3, 1, height);
  fill(rows.narrow(4, 1, width));
  rows.select(4, 0).copy_(rows.select(4, 1));
  rows.select(4, width + 1).copy_(rows.select(4, width));
  added.select(3, 0).copy_(added.select(3, 1));
  added.select(3, height + 1).copy_(added.select(3, height));
  for (int64_t t = 0; t < history_ && is_first; ++t) frame(t).copy_(frame(history_));
  return buffer_.narrow(2, 0, history_ + count);
}

}  // namespace opensora::nn
