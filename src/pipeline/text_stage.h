// Prompts to embeddings: both tokenizers and both text encoders, loaded one after the other and released.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <string>
#include <vector>

#include "opensora/config.h"
#include "sampling/sampler.h"

namespace opensora::pipeline {

struct TextStageOptions {
  std::filesystem::path model_dir;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  std::filesystem::path t5_weights = {}, clip_weights = {};  // file or folder; empty: found in model_dir
};

// One embedding a prompt, in order. A prompt that is cut gets a warning that says where.
// Throws CheckpointError: a file is missing, damaged, or of another model than its neighbours.
std::vector<sampling::TextEmbedding> encode_prompts(const std::vector<std::string>& prompts, const Config& config,
                                                    const TextStageOptions& options);

}  // namespace opensora::pipeline
