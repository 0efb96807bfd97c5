// The stages of one video, in order. Each times itself on the video's clock and releases what no later one needs.
#pragma once

#include <ATen/ATen.h>

#include <span>

#include "models/model_set.h"
#include "pipeline/video.h"

namespace opensora::pipeline {

// Checks that each text that `videos` need can be had, as check_texts() does. Throws CheckpointError, UsageError.
void check_video_texts(std::span<const Video* const> videos);

// For all `videos` at once, each distinct text once; the text encoders are loaded for it and released. Throws
// CheckpointError, OutOfMemoryError.
void encode_video_texts(std::span<Video* const> videos, models::ModelSet& models);

// FLUX's picture: sampled, decoded and written to plan.picture (to the output, if it is all that is asked for).
void make_first_picture(Video& video, models::ModelSet& models);
// The picture, which is on disk, becomes the video's reference.
void encode_first_picture(Video& video, models::ModelSet& models);

// Noise to latent: [1, C, T, h, w], float32, on the CPU.
at::Tensor sample_latent(Video& video, models::ModelSet& models);

// Latent to output file. The latent is the video's own, or read from its file.
void decode_and_write(Video& video, models::ModelSet& models);

}  // namespace opensora::pipeline
