#include "media/contact_sheet.h"

#include <algorithm>
#include <cstring>

#include "media/ffmpeg_functions.h"

namespace opensora::media {
namespace {

constexpr int kMaxShown = 12, kMaxColumns = 4;
constexpr int kMaxWidth = 1600;  // pixels
constexpr int kGap = 4;          // pixels
constexpr int kRgbBytes = 3;

Size cell_size(Size size, int columns) {
  const int room = (kMaxWidth - (columns - 1) * kGap) / columns;
  if (size.width <= room) return size;
  return {room, std::max(1, static_cast<int>(int64_t{size.height} * room / size.width))};
}

// Cell `i` of `shown` holds this frame.
int64_t frame_of_cell(int i, int shown, int64_t frames) {
  return shown == 1 ? 0 : (i * (frames - 1) + (shown - 1) / 2) / (shown - 1);
}

}  // namespace

ContactSheet::ContactSheet(int64_t frames, Size size)
    : frames_(frames),
      shown_(static_cast<int>(std::min<int64_t>(frames, kMaxShown))),
      columns_(std::min(shown_, kMaxColumns)),
      cell_(cell_size(size, columns_)),
      scaler_(size, cell_, /*canvas=*/cell_) {
  const int rows = (shown_ + columns_ - 1) / columns_;
  sheet_.width = columns_ * (cell_.width + kGap) - kGap;
  sheet_.height = rows * (cell_.height + kGap) - kGap;
  sheet_.rgb.assign(static_cast<size_t>(sheet_.width) * sheet_.height * kRgbBytes, 0);
}

void ContactSheet::add(int64_t t, const uint8_t* rgb24) {
  for (int i = 0; i < shown_; ++i) {
    if (frame_of_cell(i, shown_, frames_) != t) continue;
    const AVFrame& cell = scaler_.scale(rgb24);
    const int64_t left = int64_t{i % columns_} * (cell_.width + kGap),
                  top = int64_t{i / columns_} * (cell_.height + kGap);
    for (int64_t y = 0; y < cell_.height; ++y) {
      std::memcpy(&sheet_.rgb[((top + y) * sheet_.width + left) * kRgbBytes], cell.data[0] + y * cell.linesize[0],
                  static_cast<size_t>(cell_.width) * kRgbBytes);
    }
    return;
  }
}

}  // namespace opensora::media
