#include "media/picture_shape.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "media/ffmpeg_functions.h"
#include "media/input.h"
#include "opensora/limits.h"

namespace opensora::media {

std::optional<Size> square_size(Size stored, Ratio pixel_aspect) {
  constexpr double kNonsense = 10;
  const double aspect = static_cast<double>(pixel_aspect.num) / pixel_aspect.den;
  if (aspect > kNonsense || aspect < 1 / kNonsense) return std::nullopt;
  const double width = stored.width * std::max(aspect, 1.0), height = stored.height * std::max(1 / aspect, 1.0);
  if (std::max(width, height) > kMaxEdge) return std::nullopt;
  return Size{static_cast<int>(std::lround(width)), static_cast<int>(std::lround(height))};
}

Picture PictureScaler::scale(Picture picture, Size size) {
  const Size stored{picture.width, picture.height};
  if (stored == size) return picture;
  if (!scaler_ || from_ != stored || to_ != size) scaler_.emplace(from_ = stored, to_ = size, size);
  const AVFrame& scaled = scaler_->scale(picture.rgb.data());
  constexpr size_t kRgbBytes = 3;
  const size_t row = size.width * kRgbBytes;
  picture = {size.width, size.height, std::vector<uint8_t>(row * size.height)};
  for (int y = 0; y < size.height; ++y) {
    std::memcpy(&picture.rgb[y * row], scaled.data[0] + static_cast<ptrdiff_t>(y) * scaled.linesize[0], row);
  }
  return picture;
}

}  // namespace opensora::media
