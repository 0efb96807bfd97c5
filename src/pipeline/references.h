// References: read before any weight is loaded, then encoded.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "autoencoder/autoencoder.h"
#include "opensora/generate.h"
#include "pipeline/plan.h"
#include "pipeline/stage.h"

namespace opensora::pipeline {

// The frames of each reference as the condition wants them: float [1, 3, t, H, W] in [-1, 1], t one frame, 33 or 65.
// Throws InputMediaError, and what the clock's progress throws.
std::vector<at::Tensor> read_references(const GenerateRequest& request, const Plan& plan, const StageClock& clock);

// Their scaled latents, [1, C, t', h, w], float32 on the CPU.
std::vector<at::Tensor> encode_references(const GenerateRequest& request, const Plan& plan,
                                          const autoencoder::Autoencoder& encoder,
                                          const std::vector<at::Tensor>& references, const StageClock& clock);

}  // namespace opensora::pipeline
