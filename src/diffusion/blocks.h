// The blocks of the MMDiT transformer, as in FLUX and Open-Sora 2.0. Names are the checkpoint's.
//
// B batch, N image tokens, L text tokens, H heads, D width of a head, C = H * D hidden size.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "core/weights.h"
#include "diffusion/rope.h"
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

// What the conditioning vector makes of a stream: (1 + scale) * norm(x) + shift before a layer, gate after it.
struct Modulation {
  at::Tensor shift, scale, gate;  // [B, 1, C]

  at::Tensor operator()(const at::Tensor& x) const;  // modulated LayerNorm
};

// vec [B, C] -> `count` modulations.
struct ModulationLayer {
  nn::Linear lin;
  int64_t count;

  ModulationLayer(const Weights& weights, int64_t hidden_size, int64_t count);
  std::vector<Modulation> operator()(const at::Tensor& vec) const;
};

struct QKV {
  at::Tensor q, k, v;  // [B, L, H, D], q and k normalised
};

// q, k, v of one stream of a double block: one fused matrix (`qkv`) or three (`q_proj`, `k_proj`, `v_proj`).
struct SelfAttention {
  int64_t num_heads;
  std::optional<nn::Linear> qkv;
  std::optional<nn::Linear> q_proj, k_proj, v_proj;
  nn::RMSNorm query_norm, key_norm;
  nn::Linear proj;

  SelfAttention(const Weights& weights, const MMDiTConfig& config);
  QKV operator()(const at::Tensor& x) const;  // [B, L, C]
};

// Linear, GELU (tanh), linear.
struct MLP {
  nn::Linear in_layer, out_layer;

  MLP(const Weights& weights, const MMDiTConfig& config);
  at::Tensor operator()(const at::Tensor& x) const;
};

// Image and text keep their own weights and attend to each other.
struct DoubleStreamBlock {
  struct Stream {
    ModulationLayer mod;
    SelfAttention attn;
    MLP mlp;

    Stream(const Weights& block, const std::string& name, const MMDiTConfig& config);
    at::Tensor update(const at::Tensor& x, const at::Tensor& attended, const std::vector<Modulation>& mods) const;
  };
  Stream img, txt;

  DoubleStreamBlock(const Weights& weights, const MMDiTConfig& config);
  // img [B, N, C], txt [B, L, C], vec [B, C] -> img, txt
  std::pair<at::Tensor, at::Tensor> operator()(const at::Tensor& img_in, const at::Tensor& txt_in,
                                               const at::Tensor& vec, const RotaryEmbedding& pe) const;
};

// One stream of text and image tokens; attention and MLP run in parallel.
struct SingleStreamBlock {
  int64_t num_heads, hidden_size, mlp_hidden;
  std::optional<nn::Linear> linear1;                // fused: q, k, v, mlp
  std::optional<nn::Linear> q_proj, k_proj, v_mlp;  // separate
  nn::Linear linear2;
  nn::RMSNorm query_norm, key_norm;
  ModulationLayer modulation;

  SingleStreamBlock(const Weights& weights, const MMDiTConfig& config);
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& vec, const RotaryEmbedding& pe) const;  // [B, L+N, C]
};

struct LastLayer {
  nn::Linear adaln_modulation, linear;

  LastLayer(const Weights& weights, int64_t hidden_size, int64_t out_channels);
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& vec) const;  // [B, N, C] -> [B, N, out_channels]
};

}  // namespace opensora::diffusion
