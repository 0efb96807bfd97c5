// CLIP's text tower: ids to one pooled vector.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "core/weights.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "text/encoder_config.h"

namespace opensora::text {

struct ClipLayer {
  int64_t num_heads;
  nn::LayerNorm layer_norm1, layer_norm2;
  nn::Linear q_proj, k_proj, v_proj, out_proj;
  nn::Linear fc1, fc2;

  ClipLayer(const Weights& weights, const ClipConfig& config);
  at::Tensor operator()(const at::Tensor& x) const;  // [B, L, C]
};

struct ClipEncoder {
  at::ScalarType dtype, computes_in;  // of results, and of the activations before them
  nn::Embedding token_embedding, position_embedding;
  std::vector<ClipLayer> layers;
  nn::LayerNorm final_layer_norm;

  struct Output {
    at::Tensor last_hidden_state;  // [B, L, C]
    at::Tensor pooled;             // [B, C], the state at the first position that holds the largest id
  };

  ClipEncoder(const Weights& weights, const ClipConfig& config);
  Output forward(const at::Tensor& ids) const;  // int64 [B, L], L at most max_position_embeddings
};

}  // namespace opensora::text
