// The two text encoders: CLIP's text tower, which makes one pooled vector of the ids, and the encoder of T5 v1.1, which
// makes one state for each token.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "core/weights.h"
#include "nn/block_list.h"
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

struct T5Block {
  int64_t num_heads;
  nn::RMSNorm attention_norm, mlp_norm;
  nn::Linear q, k, v, o;
  nn::Linear wi_0, wi_1, wo;

  T5Block(const Weights& block, const T5Config& config);
  // x [B, L, d_model], bias [1, H, L, L], in whose dtype the layers compute
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& bias) const;

 private:
  T5Block(const T5Config& config, const Weights& layer);
  at::Tensor attend(const at::Tensor& x, const at::Tensor& bias) const;
  at::Tensor gated_mlp(const at::Tensor& x) const;
};

struct T5Encoder {
  T5Config config;
  at::ScalarType dtype, computes_in;  // of results, and of the activations before them
  nn::Embedding shared;
  nn::Embedding relative_attention_bias;  // [buckets, heads], block 0's, used by all
  nn::BlockList<T5Block> blocks;
  nn::RMSNorm final_layer_norm;

  T5Encoder(const Weights& weights, const T5Config& config);
  // int64 [B, L] -> [B, L, d_model]. There is no mask: padding attends and is attended to, as the model was trained.
  at::Tensor forward(const at::Tensor& ids) const;

  at::Tensor position_bias(int64_t length) const;  // [1, H, L, L]
};

// About what T5's forward over one text of `length` ids takes beside its weights, in bytes.
int64_t forward_bytes(const T5Config& config, int64_t length, at::ScalarType dtype);

}  // namespace opensora::text
