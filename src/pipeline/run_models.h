// What a request's run takes of models, and how.
#pragma once

#include "models/model_set.h"
#include "opensora/generate.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

// From files, for one video.
models::SetOptions set_options(const GenerateRequest& request, const Plan& plan);

// Finds and opens every file that the request will load and compares all names and shapes with the models': see
// check_models(). `encodes_pictures`: the video autoencoder's encoder is needed, too. Where embeddings are given the
// text encoders are check_texts()' business. Throws CheckpointError.
void check_model_files(const GenerateRequest& request, bool encodes_pictures);

// Whether the configuration is for published weights, or a bundled one, and the model folder lacks some of its weights.
bool lacks_weights(const GenerateRequest& request);

}  // namespace opensora::pipeline
