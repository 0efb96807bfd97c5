// FLUX.1 in front of the video model: the first frame from the prompt.
#pragma once

#include <ATen/ATen.h>

#include "pipeline/models.h"
#include "pipeline/plan.h"
#include "pipeline/stage.h"
#include "sampling/sampler.h"

namespace opensora::pipeline {

struct Picture {
  at::Tensor noise, latent;  // [1, 16, 1, h, w], float32
  at::Tensor frame;          // [1, 3, 1, H, W], as decoded, nominally in [-1, 1]
  at::Tensor rgb;            // uint8 [H, W, 3], on the CPU
  int64_t forwards = 0;
};

// `prompt`: the bare prompt's embedding, without the suffixes that the video model knows. Throws
// CheckpointError, NumericError.
Picture make_picture(const Plan& plan, Models& models, const sampling::TextEmbedding& prompt, const StageClock& clock);

}  // namespace opensora::pipeline
