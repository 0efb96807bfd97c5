// YUV of still pictures to RGB, as the libraries of their formats do it.
#pragma once

#include <optional>

#include "media/ffmpeg.h"
#include "media/picture.h"

namespace opensora::media {

// Planar YUV of 8 to 12 bits, also with alpha (over black), whose chroma planes have 1, 1/2 or 1/4 of the columns and 1
// or 1/2 of the rows, with samples centred between those that they stand for: JPEG, WebP, AVIF. Chroma is interpolated
// as libjpeg's and libwebp's "fancy upsampling" do (weights 3/4 and 1/4; of four columns it is repeated), and the
// result is libjpeg's within a level. `is_full_range`: luma of 0 to 255 (or to the depth's largest), else 16 to 235.
// The matrix is the frame's, BT.601 if it has none. nullopt for other formats.
//
// swscale would do: but it shifts chroma by part of a pixel, and takes twice the time.
std::optional<Picture> still_to_rgb(const AVFrame& frame, bool is_full_range);

}  // namespace opensora::media
