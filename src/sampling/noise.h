// The noise that a video starts from: LibTorch's on the CPU, or what its CUDA generator would fill.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>

#include "sampling/size.h"

namespace opensora::sampling {

// Who draws the noise. CUDA's is computed on the host, whatever the run's device.
struct Rng {
  int64_t cuda_blocks = 0;            // as rng_blocks() (opensora/generate.h) says; 0: LibTorch's generator on the CPU
  at::ScalarType dtype = at::kFloat;  // of CUDA's: what it is rounded to, as the official run draws it in its dtype
};

// Standard normal, [1, channels, frames, height, width], float32 on the CPU whatever the run's device: a seed means the
// same video everywhere. By default it is the official noise of a float32 run on the CPU bit for bit.
at::Tensor make_noise(const LatentShape& shape, uint64_t seed, const Rng& rng = {});

// What at::randn(shape) gives on a GPU with a new CUDA generator of this seed: float32, on the CPU, below 2^31 bytes.
// LibTorch's kernel starts blocks of 256 threads, as many as there are elements for and at most `blocks`, which is how
// many the GPU runs at once. Each thread draws four numbers at a time, and the i-th of them goes i times the number of
// threads further. So elements up to blocks * 256 are the same on every GPU that runs as many, and later ones depend on
// `blocks`. Within 2e-6 of the GPU's, whose sines are approximate.
at::Tensor cuda_normal(at::IntArrayRef shape, uint64_t seed, int64_t blocks);

// The `blocks` with which a CUDA generator of that seed filled `values`, float32 on the CPU. 0: with none that shows.
int64_t find_cuda_blocks(const at::Tensor& values, uint64_t seed);

// Philox4x32-10 (Salmon et al. 2011): four random words for each counter.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

}  // namespace opensora::sampling
