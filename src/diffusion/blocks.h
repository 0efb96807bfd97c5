// The blocks of the MMDiT transformer, as in FLUX and Open-Sora 2.0. Names are the checkpoint's.
//
// B batch, N image tokens, L text tokens, H heads, D width of a head, C = H * D hidden size. Blocks update the stream
// of their workspace in place.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/weights.h"
#include "diffusion/modulation.h"
#include "diffusion/sequence.h"
#include "nn/attention_fp8.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "opensora/config.h"

namespace opensora::diffusion {

// How the MLPs run. What is best differs between devices; the results do by rounding.
struct MlpLayout {
  // The MLP's inner activations are four times as wide as the stream: they are there for at most so many tokens at a
  // time, in parts whose lengths, but for the last, are multiples of `multiple`. A GPU needs many rows for all of its
  // processors to have work.
  int64_t tokens, multiple;
  // A single block's attention lies beside its MLP's inner activations, and one product takes both. Otherwise each has
  // a product of its own, and these add up: the activations are then contiguous, as LibTorch's fastest products on a
  // GPU want them, and attention is not copied.
  bool joins;
};
constexpr MlpLayout kCpuLayout = {.tokens = 2048, .multiple = 1, .joins = true};
constexpr MlpLayout kAcceleratorLayout = {.tokens = 16384, .multiple = 128, .joins = false};
MlpLayout mlp_layout(at::Device kernel_device);

// The stream holds its values times this. In float16 some models' would overflow; what takes them normalises them
// first, so that nothing but that changes.
double stream_scale(at::ScalarType dtype);

// q, k and v of all tokens: [B, L, H, D] each.
struct QKV {
  at::Tensor fused;  // [B, L, 3C]: the three side by side, where one matrix makes them; otherwise undefined
  at::Tensor q, k, v;

  QKV tokens(int64_t first, int64_t length) const;  // a view
};

// The tensors that a forward works in: made once for a size, and used by every block of every step.
struct Workspace {
  MlpLayout layout;
  at::Tensor x;       // [B, L+N, C], the stream: text tokens, then image tokens; times stream_scale()
  at::Tensor normed;  // [B, L+N, C], what a layer takes, and then what it gives
  at::Tensor qkv;     // B * (L+N) * 3C elements
  at::Tensor hidden;  // B * min(L+N, layout.tokens) * (mlp_hidden, and where the layout joins, C) elements
  // Of the layer that runs, where the checkpoint's weights are of another dtype; of the MLP's second as well.
  std::shared_ptr<nn::WeightBuffer> weights = std::make_shared<nn::WeightBuffer>();
  std::shared_ptr<nn::WeightBuffer> second_weights = std::make_shared<nn::WeightBuffer>();

  // `options`: of the activations.
  Workspace(const MMDiTConfig& config, int64_t batch, int64_t tokens, const at::TensorOptions& options,
            const MlpLayout& layout);

  int64_t nbytes() const;  // without converted weights

  double scale() const { return stream_scale(x.scalar_type()); }
  QKV split_qkv(int64_t num_heads, bool fused) const;
  // A part of `hidden` as [B, tokens, width].
  at::Tensor hidden_as(int64_t tokens, int64_t width) const;
};

// Calls work(first, length) for parts of `tokens`, as equal as the layout allows.
template <typename Work>
void for_token_chunks(int64_t tokens, const MlpLayout& layout, Work&& work) {
  const int64_t chunks = (tokens + layout.tokens - 1) / layout.tokens;
  const auto begin = [&](int64_t chunk) {
    const int64_t exact = tokens * chunk / chunks;
    return std::min(tokens, (exact + layout.multiple - 1) / layout.multiple * layout.multiple);
  };
  for (int64_t i = 0; i < chunks; ++i) work(begin(i), begin(i + 1) - begin(i));
}

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
  // x [B, L, C], in place; what comes out is times the workspace's scale.
  void operator()(const at::Tensor& x, const Workspace& work) const;
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
  void operator()(const Workspace& work, int64_t text_length, const PerStream<at::Tensor>& mods,
                  const RotaryEmbedding& pe, const nn::AttentionLayer& attend = {}) const;
};

// One stream of text and image tokens; attention and MLP run in parallel.
struct SingleStreamBlock {
  int64_t num_heads, hidden_size, mlp_hidden;
  std::optional<nn::Linear> linear1;                // fused: q, k, v, mlp
  std::optional<nn::Linear> q_proj, k_proj, v_mlp;  // separate
  nn::Linear linear2;
  QKNorm norm;

  SingleStreamBlock(const Weights& weights, const MMDiTConfig& config);
  // mods [B, 3C]
  void operator()(const Workspace& work, const at::Tensor& mods, const RotaryEmbedding& pe,
                  const nn::AttentionLayer& attend = {}) const;

 private:
  nn::Linear mlp_in() const;
  void mlp_and_out(const Workspace& work, const at::Tensor& attended) const;
  void project(const QKV& out, const at::Tensor& x, nn::WeightBuffer& weights) const;
};

struct LastLayer {
  nn::Linear linear;

  LastLayer(const Weights& weights, int64_t hidden_size, int64_t out_channels);
  // x [B, N, C] of the stream, `normed` as large, mods [B, 2C] -> [B, N, out_channels]
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& normed, const at::Tensor& mods) const;
};

}  // namespace opensora::diffusion
