// The size at which pictures are seen: pixels are square, and all of a file are of one size.
#pragma once

#include <optional>

#include "media/picture.h"
#include "media/scale.h"

namespace opensora::media {

// Width by height of a pixel.
struct Ratio {
  int num = 1, den = 1;
};

// The size in square pixels of a picture of `stored` pixels of another form: the shorter side of a pixel is stretched,
// so that nothing is lost. nullopt for a form that is nonsense (more than 10:1) or would exceed what can be read.
std::optional<Size> square_size(Size stored, Ratio pixel_aspect);

// Scales pictures (Lanczos), many of one size fast.
class PictureScaler {
 public:
  Picture scale(Picture picture, Size size);

 private:
  Size from_, to_;
  std::optional<RgbScaler> scaler_;
};

}  // namespace opensora::media
