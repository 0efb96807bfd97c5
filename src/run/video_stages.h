// The stages of a job, in order. Each times itself on the job's clock and releases what no later stage needs.
#pragma once

#include <ATen/ATen.h>

#include <span>

#include "models/model_set.h"
#include "run/job.h"
#include "sampling/sampler.h"

namespace opensora::run {

// Checks that embeddings of all texts of `jobs` can be had, as check_texts() does. Throws CheckpointError, UsageError.
void check_video_texts(std::span<const Job> jobs);

// Encodes the texts of all `jobs`, each distinct one once. The text encoders are loaded for it, and released. Throws
// CheckpointError, OutOfMemoryError.
void encode_video_texts(std::span<Job* const> jobs, models::ModelSet& models);

// Reads the references that were given, if any, and encodes them.
void encode_given_references(Job& job, models::ModelSet& models);

// Makes FLUX's picture and writes it to job.picture_file, or to the output if nothing else was asked for.
void make_first_picture(Job& job, models::ModelSet& models);
// Reads that picture from disk and encodes it as the video's reference.
void encode_first_picture(Job& job, models::ModelSet& models);

// Samples the latent: [1, C, T, h, w], float32, on the CPU. It begins at `state` and keeps that up to date.
at::Tensor sample_latent(Job& job, models::ModelSet& models, sampling::SamplerState& state);

// Makes the output of the latent, which is read from its file unless the job holds it.
void decode_and_write(Job& job, models::ModelSet& models);

}  // namespace opensora::run
