// What a video will take: time, estimated from its FLOPs and a short trial of the machine's kernels, and space on disk,
// which is checked before hours of work are lost for lack of it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>

#include "core/meta_device.h"
#include "opensora/config.h"
#include "run/job.h"

namespace opensora::run {

// FLOP/s that this CPU reaches while nothing else runs on it.
struct Rates {
  double linear = 1, convolution = 1, attention = 1;

  double seconds(const FlopCount& flops) const;
};

// Runs each kind of kernel for some milliseconds, at the sizes of the configuration's models but no larger than needed
// for the rates to be independent of size. `tokens` is all that the transformer reads at once. Convolutions are only
// needed for the autoencoder's share.
Rates measure_rates(const Config& config, int64_t tokens, at::ScalarType dtype, bool with_convolutions);

// FLOPs of the sampling steps from `first` on.
FlopCount sampling_flops(const Job& job, int64_t first = 0);

// An estimate of the output's size in bytes, for `frames` frames of `size` (before output_size), from codec, pixel
// format and crf. What the video shows matters as much; the estimate is that of quiet footage rather than of noise, so
// that nothing is refused that would fit. For lossless codecs and PNGs, whose sizes vary least, it is a little above
// what the models' videos take.
int64_t expected_file_bytes(const GenerateRequest& request, PixelSize size, int64_t frames);

// A message if what the job has yet to write would not fit on the disks of its latent, its output and the files beside
// it; nullopt if it fits or nothing is known. `waiting` videos have been sampled already and will be written there,
// too.
std::optional<std::string> lack_of_space(const Job& job, int64_t waiting);

}  // namespace opensora::run
