// What the stages of a video compute, without its files: for the run, and for the planner on the meta device.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "opensora/config.h"
#include "pipeline/plan.h"
#include "pipeline/rgb_frames.h"
#include "pipeline/stage.h"
#include "sampling/sampler.h"

namespace opensora::pipeline {

// FLUX's picture. `prompt`: the bare prompt's embedding, without the suffixes that the video model knows. Reports the
// stage "image".
sampling::SamplerInput picture_input(const Plan& plan, const sampling::TextEmbedding& prompt, const StageClock& clock);
// [1, 3, 1, H, W] from its latent [1, 16, 1, h, w]. Throws NumericError.
at::Tensor decode_picture(const autoencoder::Autoencoder& decoder, const at::Tensor& latent);

// The video. `references`: latents, as encode_references() makes them. Reports the stage "denoise".
sampling::SamplerInput video_input(const Config& config, const Plan& plan, const sampling::TextEmbedding& prompt,
                                   const sampling::TextEmbedding& negative, const std::vector<at::Tensor>& references,
                                   const StageClock& clock);

// The size of the video that is wanted of a latent [1, C, T, h, w].
FrameSize frame_size(const Config& config, const autoencoder::Autoencoder& decoder, const at::Tensor& latent);
// Hands on frames of that size as soon as they are whole: see RgbFrames. Each piece of the decoded video, and what is
// cut off, goes to `keep` too, if there is one. Reports the stage "decode". Throws NumericError.
void decode_frames(const autoencoder::Autoencoder& decoder, const at::Tensor& latent, const FrameSize& size,
                   const StageClock& clock, const std::function<void(const at::Tensor& frames)>& done,
                   const autoencoder::PieceSink& keep = {});

}  // namespace opensora::pipeline
