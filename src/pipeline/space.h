// Room on disks: what a video takes, before hours of work are lost for want of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "pipeline/video.h"

namespace opensora::pipeline {

// A guess at the size of the output of `frames` of `size` (before output_size), by codec, pixel format and crf: what
// moves in the video decides. Rather what quiet footage takes than noise, so that nothing is refused that would fit;
// lossless codecs and PNGs, whose sizes vary least, are a little above what the models' videos take.
int64_t expected_file_bytes(const GenerateRequest& request, PixelSize size, int64_t frames);

// Says so if what the video still needs would not fit on the disks of its latent, its output and what lies beside
// that. `waiting` videos that were sampled before are still to be written there.
std::optional<std::string> lack_of_space(const Video& video, int64_t waiting);

}  // namespace opensora::pipeline
