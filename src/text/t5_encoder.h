// The T5 v1.1 encoder: ids to one state a token.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "core/weights.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "text/encoder_config.h"

namespace opensora::text {

struct T5Block {
  int64_t num_heads;
  nn::RMSNorm attention_norm, mlp_norm;
  nn::Linear q, k, v, o;
  nn::Linear wi_0, wi_1, wo;

  T5Block(const Weights& weights, const T5Config& config);
  // x [B, L, d_model], bias [1, H, L, L]
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& bias) const;

 private:
  at::Tensor attend(const at::Tensor& x, const at::Tensor& bias) const;
  at::Tensor gated_mlp(const at::Tensor& x) const;
};

struct T5Encoder {
  T5Config config;
  at::ScalarType dtype, computes_in;  // of results, and of the activations before them
  nn::Embedding shared;
  nn::Embedding relative_attention_bias;  // [buckets, heads], block 0's, used by all
  std::vector<T5Block> blocks;
  nn::RMSNorm final_layer_norm;

  T5Encoder(const Weights& weights, const T5Config& config);
  // int64 [B, L] -> [B, L, d_model]. There is no mask: padding attends and is attended to, as the model was trained.
  at::Tensor forward(const at::Tensor& ids) const;

  at::Tensor position_bias(int64_t length) const;  // [1, H, L, L]
};

}  // namespace opensora::text
