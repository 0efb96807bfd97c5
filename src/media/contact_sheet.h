// Frames of a video side by side in one picture.
#pragma once

#include <cstdint>

#include "media/picture.h"
#include "media/scale.h"

namespace opensora::media {

// Up to 12 frames, evenly spread from the first to the last, in rows of 4 from the top left, with black between them.
// They are scaled down so that the sheet is at most 1600 pixels wide, never up.
class ContactSheet {
 public:
  // For a video of so many frames (at least 1), each of that size.
  ContactSheet(int64_t frames, Size size);

  // Frame `t` (from 0; those that are not shown are passed over), `rgb24`: height x width x 3, packed.
  void add(int64_t t, const uint8_t* rgb24);

  const Picture& picture() const { return sheet_; }

 private:
  int64_t frames_;
  int shown_, columns_;
  Size cell_;
  RgbScaler scaler_;
  Picture sheet_;
};

}  // namespace opensora::media
