// Reference images and videos, ready to be encoded.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>

#include "media/media_reader.h"

namespace opensora::pipeline {

// One picture, resized and cropped, as float [1, 3, 1, height, width] of -1 to 1: an image, or the first or last frame
// of a video. Throws InputMediaError as media::MediaReader does.
at::Tensor read_reference_picture(const std::filesystem::path& path, int64_t height, int64_t width,
                                  media::Position position = media::Position::kFirst,
                                  const media::PollCallback& poll = {});

// The same for pictures that are at hand: `rgb` is uint8 [H, W, 3].
at::Tensor reference_picture(const at::Tensor& rgb, int64_t height, int64_t width);

struct ReferenceVideoOptions {
  int64_t height = 0;  // pixels
  int64_t width = 0;
  double fps = 0;                                      // resampled to it by time stamps; 0: frame by frame
  int64_t frames = 0;                                  // how many are needed; 0: all that there are
  media::Position position = media::Position::kFirst;  // which, of more than that: the first or the last
  media::PollCallback poll;                            // called often; what it throws ends the reading
};

// Frames of a video, resized and cropped, as float [1, 3, T, height, width] of -1 to 1. Throws InputMediaError as
// above, or if there are too few, with both numbers: an image is a video of one frame. Animated images are resized as
// images are.
at::Tensor read_reference_video(const std::filesystem::path& path, const ReferenceVideoOptions& options);

}  // namespace opensora::pipeline
