// Sizes of a video: from a resolution's and an aspect ratio's name to pixels, and from frames to latent frames.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "opensora/config.h"

namespace opensora::sampling {

// The names that image_size() knows, in the order in which messages list them. A resolution is a number of pixels:
// "256px" that of a 256x256 square, "720p" that of a 16:9 picture 720 pixels high. A ratio is width:height.
const std::vector<std::string>& known_resolutions();
const std::vector<std::string>& known_aspect_ratios();

// The official size of a video of that resolution and aspect ratio; both sides are multiples of
// `ae_spatial_compression` (pixels a latent patch: HunyuanVAE 16, DC-AE 32).
// Throws UsageError that lists the known names if one is unknown.
PixelSize image_size(const std::string& resolution, const std::string& aspect_ratio,
                     int64_t ae_spatial_compression = 16);

// The size of the picture that FLUX makes in front of a video, from the table that the model was trained with;
// multiples of 16 whatever the video's autoencoder. Throws as image_size().
PixelSize text_to_image_size(const std::string& resolution, const std::string& aspect_ratio);

// The known aspect ratio that is nearest to a size's.
std::string nearest_aspect_ratio(PixelSize size);

// A latent's sizes. With patches of 2 a pixel size rounds up to an even number of latent rows and columns.
struct LatentShape {
  int64_t channels, frames, height, width;

  // tokens = frames * rows * columns of patches
  int64_t rows(int64_t patch_size) const { return height / patch_size; }
  int64_t columns(int64_t patch_size) const { return width / patch_size; }
};

// Each side rounded up to a multiple of `multiple`.
PixelSize round_up(PixelSize size, int64_t multiple);

// Latent frames of a video: the first frame alone, then `temporal_reduction` frames each (a last group may be short).
int64_t latent_frames(int64_t frames, int64_t temporal_reduction);

// A causal autoencoder makes k * temporal_reduction + 1 frames. Throws UsageError that names the nearest lengths on
// both sides if `frames` is no such number.
void check_num_frames(int64_t frames, int64_t temporal_reduction);

}  // namespace opensora::sampling
