// Loading the models of a run: which file, bound to which device and dtype.
#pragma once

#include <memory>

#include "autoencoder/autoencoder.h"
#include "diffusion/mmdit.h"
#include "opensora/generate.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

// Each throws CheckpointError: no file, damaged, or tensors missing or mis-shaped.
diffusion::MMDiT load_video_transformer(const GenerateRequest& request, const Plan& plan);
diffusion::MMDiT load_image_transformer(const GenerateRequest& request, const Plan& plan);
std::unique_ptr<autoencoder::Autoencoder> load_video_autoencoder(const GenerateRequest& request, const Plan& plan,
                                                                 autoencoder::Half half);
std::unique_ptr<autoencoder::Autoencoder> load_image_autoencoder(const GenerateRequest& request, const Plan& plan);

// Finds every file that the run will load, so that a missing one is reported before the first is read.
void check_model_files(const GenerateRequest& request);

}  // namespace opensora::pipeline
