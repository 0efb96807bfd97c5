// The sizes of a text encoder, from the `config.json` in its folder (Hugging Face's layout).
#pragma once

#include <cstdint>
#include <filesystem>

#include "core/weights.h"

namespace opensora::text {

// The defaults are those of CLIP-L, the text tower of openai/clip-vit-large-patch14.
struct ClipConfig {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t max_position_embeddings = 77;
  double layer_norm_eps = 1e-5;
};

// The defaults are those of google/t5-v1_1-xxl.
struct T5Config {
  int64_t vocab_size = 32128;
  int64_t d_model = 4096;
  int64_t d_kv = 64;
  int64_t d_ff = 10240;
  int64_t num_layers = 24;
  int64_t num_heads = 64;
  int64_t relative_attention_num_buckets = 32;
  int64_t relative_attention_max_distance = 128;
  double layer_norm_epsilon = 1e-6;
};

// Reads `folder`/config.json; CLIP's text sizes may stand under "text_config" as in the published file.
// Throws CheckpointError that names the file if it is missing or not JSON, or that lists on one line all else that is
// wrong: numbers that are not whole or out of all proportion, heads that do not divide the width, an activation that is
// not the model's (CLIP "quick_gelu", T5 "gated-gelu").
ClipConfig load_clip_config(const std::filesystem::path& folder);
T5Config load_t5_config(const std::filesystem::path& folder);

// The sizes of weights that come as a single file without config.json: what the tensors' shapes show, and the published
// values for the rest. Throws CheckpointError that names the weights if a tensor that shows the sizes is missing or the
// number of heads cannot be deduced (CLIP's heads are taken to be 64 wide, as in all published models).
ClipConfig deduce_clip_config(const WeightSource& weights);
T5Config deduce_t5_config(const WeightSource& weights);

}  // namespace opensora::text
