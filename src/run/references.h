// Reference images and videos: read, resized and cropped before any weight is loaded, then encoded.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "media/media_reader.h"
#include "opensora/generate.h"
#include "run/job.h"
#include "run/stage.h"

namespace opensora::run {

// One picture, resized and cropped to float [1, 3, 1, height, width] in [-1, 1]: an image, or the first or last frame
// of a video. Throws InputMediaError as media::MediaReader does.
at::Tensor read_reference_picture(const std::filesystem::path& path, int64_t height, int64_t width,
                                  media::Position position = media::Position::kFirst,
                                  const media::PollCallback& poll = {});

// The same for a picture in memory, uint8 [H, W, 3].
at::Tensor reference_picture(const at::Tensor& rgb, int64_t height, int64_t width);

struct ReferenceVideoOptions {
  int64_t height = 0;  // pixels
  int64_t width = 0;
  double fps = 0;                                      // the rate to resample to, by time stamps; 0: take every frame
  int64_t frames = 0;                                  // how many are needed; 0: all
  media::Position position = media::Position::kFirst;  // which ones, if there are more
  media::PollCallback poll;                            // called often; may throw to end the reading
};

// The frames of a video, resized and cropped to float [1, 3, T, height, width] in [-1, 1]. An image counts as a video
// of one frame; animated images are resized as images are. Throws InputMediaError as above, and if there are too few
// frames.
at::Tensor read_reference_video(const std::filesystem::path& path, const ReferenceVideoOptions& options);

// The frames of each reference that the condition asks for: float [1, 3, t, H, W] in [-1, 1], where t is 1, 33 or 65.
// Throws InputMediaError, and what the clock's progress throws.
std::vector<at::Tensor> read_references(const Job& job, const StageClock& clock);

// Their scaled latents, [1, C, t', h, w], float32 on the CPU.
std::vector<at::Tensor> encode_references(const Job& job, const autoencoder::Autoencoder& encoder,
                                          const std::vector<at::Tensor>& references, const StageClock& clock);

}  // namespace opensora::run
