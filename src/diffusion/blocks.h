// The blocks of the MMDiT transformer, as in FLUX and Open-Sora 2.0. Names are the checkpoint's.
//
// B batch, N image tokens, L text tokens, H heads, D width of a head, C = H * D hidden size. Blocks update the stream
// of their workspace in place.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "core/weights.h"
#include "diffusion/modulation.h"
#include "diffusion/rope.h"
#include "diffusion/workspace.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "opensora/config.h"

namespace opensora::diffusion {

// Sinusoids of 1000 * t: [B] -> [B, dim], float32, cosines first.
at::Tensor timestep_embedding(const at::Tensor& t, int64_t dim);

// in_layer, SiLU, out_layer.
struct MLPEmbedder {
  nn::Linear in_layer, out_layer;

  MLPEmbedder(const Weights& weights, int64_t in_dim, int64_t hidden_size);
  at::Tensor operator()(const at::Tensor& x) const;
};

// q and k in front of the attention: over each head an RMSNorm, then its rotation.
struct QKNorm {
  nn::RMSNorm query_norm, key_norm;

  QKNorm(const Weights& weights, const MMDiTConfig& config);
  void operator()(const QKV& qkv, const RotaryEmbedding& pe) const;  // in place
};

// q, k, v of one stream of a double block: one fused matrix (`qkv`) or three (`q_proj`, `k_proj`, `v_proj`).
struct SelfAttention {
  std::optional<nn::Linear> qkv;
  std::optional<nn::Linear> q_proj, k_proj, v_proj;
  QKNorm norm;
  nn::Linear proj;

  SelfAttention(const Weights& weights, const MMDiTConfig& config);
  // x [B, L, C]
  void operator()(const QKV& out, const at::Tensor& x, const RotaryEmbedding& pe, nn::WeightBuffer& weights) const;
};

// Linear, GELU (tanh), linear.
struct MLP {
  nn::Linear in_layer, out_layer;

  MLP(const Weights& weights, const MMDiTConfig& config);
  void operator()(const at::Tensor& x, const Workspace& work) const;  // x [B, L, C], in place
};

// Image and text keep their own weights and attend to each other.
struct DoubleStreamBlock {
  struct Stream {
    SelfAttention attn;
    MLP mlp;

    Stream(const Weights& block, const std::string& name, const MMDiTConfig& config);
  };
  int64_t num_heads, hidden_size;
  bool fused_qkv;
  Stream img, txt;

  DoubleStreamBlock(const Weights& weights, const MMDiTConfig& config);
  // The first `text_length` tokens are the text's.
  void operator()(const Workspace& work, int64_t text_length, const Modulations::DoubleBlock& mods,
                  const RotaryEmbedding& pe) const;
};

// One stream of text and image tokens; attention and MLP run in parallel.
struct SingleStreamBlock {
  int64_t num_heads, hidden_size, mlp_hidden;
  std::optional<nn::Linear> linear1;                // fused: q, k, v, mlp
  std::optional<nn::Linear> q_proj, k_proj, v_mlp;  // separate
  nn::Linear linear2;
  QKNorm norm;

  SingleStreamBlock(const Weights& weights, const MMDiTConfig& config);
  void operator()(const Workspace& work, const at::Tensor& mods, const RotaryEmbedding& pe) const;  // mods [B, 3C]

 private:
  nn::Linear mlp_in() const;
  void project(const QKV& out, const at::Tensor& x, nn::WeightBuffer& weights) const;
};

struct LastLayer {
  nn::Linear linear;

  LastLayer(const Weights& weights, int64_t hidden_size, int64_t out_channels);
  // x [B, N, C], `normed` as large, mods [B, 2C] -> [B, N, out_channels]
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& normed, const at::Tensor& mods) const;
};

}  // namespace opensora::diffusion
