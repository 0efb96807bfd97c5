// What the stages of a job compute, without any files: the run uses it, and so does the planner on the meta device.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "run/job.h"
#include "run/stage.h"
#include "sampling/sampler.h"

namespace opensora::run {

// The sampler's input for FLUX's picture, from job.picture_text: the bare prompt, without the suffixes that only the
// video model knows. Reports the stage "image".
sampling::SamplerInput picture_input(const Job& job, const StageClock& clock);
// Decodes its latent, [1, 16, 1, h, w], to [1, 3, 1, H, W]. Throws NumericError.
at::Tensor decode_picture(const autoencoder::Autoencoder& decoder, const at::Tensor& latent);

// The sampler's input for the video, from the job's texts and references. Reports the stage "denoise".
sampling::SamplerInput video_input(const Job& job, const StageClock& clock);

// Decodes a latent, [1, C, T, h, w], and hands the first `count` frames to `done` as soon as they are complete (see
// RgbFrames). If given, `keep` receives each decoded piece as well, including what is cut off. Reports the stage
// "decode". Throws NumericError.
void decode_frames(const autoencoder::Autoencoder& decoder, const at::Tensor& latent, int64_t count,
                   const StageClock& clock, const std::function<void(const at::Tensor& frames)>& done,
                   const autoencoder::PieceSink& keep = {});

}  // namespace opensora::run
