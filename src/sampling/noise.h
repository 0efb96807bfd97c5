// The noise that a video starts from.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace opensora::sampling {

// A latent's sizes. With patches of 2 a pixel size rounds up to an even number of latent rows and columns.
struct LatentShape {
  int64_t channels, frames, height, width;

  // tokens = frames * rows * columns of patches
  int64_t rows(int64_t patch_size) const { return height / patch_size; }
  int64_t columns(int64_t patch_size) const { return width / patch_size; }
};

// Standard normal, [1, channels, frames, height, width], float32 on the CPU whatever the run's device: a seed means the
// same video everywhere, and on a float32 CPU run it is the official noise bit for bit.
at::Tensor make_noise(const LatentShape& shape, uint64_t seed);

}  // namespace opensora::sampling
