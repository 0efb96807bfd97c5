// Converts what codecs decode to the pictures that we work on.
#pragma once

#include <filesystem>
#include <optional>
#include <utility>

#include "media/ffmpeg.h"
#include "media/image_tags.h"
#include "media/picture.h"

struct AVStream;

namespace opensora::media {

// How to turn and mirror what is stored to see it upright: the pixel (x, y) goes to (a*x + c*y, b*x + d*y), moved back
// into the picture. Each is -1, 0 or 1, as multiples of 90 degrees have it.
struct Orientation {
  int a = 1, b = 0, c = 0, d = 1;
  bool operator==(const Orientation&) const = default;
};

// The orientation by the display matrix of the frame or the stream. Angles in between are not applied.
Orientation orientation(const AVFrame& frame, const AVStream& stream);

// The orientation that a value of EXIF's Orientation, 1 to 8, stands for.
Orientation exif_orientation_of(int value);

// Whether it exchanges width and height.
inline bool is_sideways(Orientation orientation) { return orientation.a == 0; }

Picture turn(Picture picture, Orientation orientation);

// YUV of still pictures to RGB, as the libraries of their formats do it.
//
// Planar YUV of 8 to 12 bits, also with alpha (over black), whose chroma planes have 1, 1/2 or 1/4 of the columns and 1
// or 1/2 of the rows, with samples centred between those that they stand for: JPEG, WebP, AVIF. Chroma is interpolated
// as libjpeg's and libwebp's "fancy upsampling" do (weights 3/4 and 1/4; of four columns it is repeated), and the
// result is libjpeg's within a level. `is_full_range`: luma of 0 to 255 (or to the depth's largest), else 16 to 235.
// The matrix is the frame's, BT.601 if it has none. nullopt for other formats.
//
// swscale could do it too, but it shifts chroma by part of a pixel, and takes twice the time.
std::optional<Picture> still_to_rgb(const AVFrame& frame, bool is_full_range);

// Converts frames of any pixel format, also with sizes and formats that change: by their tagged colour matrix and range
// (untagged: BT.709 from 720 rows on, else BT.601; limited range for YUV, full range for grey), 8 bits a channel, alpha
// composited over black. Transfer functions are left alone: HDR (PQ, HLG) comes out flat, and is logged once.
//
// Pictures are converted as their formats' own libraries do it (see still_to_rgb(); untagged: BT.601), and their colour
// profile is left alone as Pillow leaves it; one that is not sRGB is logged once.
class RgbConverter {
 public:
  // `path`: for messages. `still`: of a picture, null for a video; it must outlive the converter.
  RgbConverter(std::filesystem::path path, const ImageTags* still) : path_(std::move(path)), still_(still) {}

  // Throws InputMediaError for a pixel format that cannot be converted.
  Picture convert(const AVFrame& frame);

 private:
  void warn_of_colours(const AVFrame& frame);
  void tell_of_transparency();

  std::filesystem::path path_;
  const ImageTags* still_;
  bool warned_ = false;
  bool told_of_transparency_ = false;
};

}  // namespace opensora::media
