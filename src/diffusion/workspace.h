// The tensors that a forward works in: made once for a size, and used by every block of every step.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "nn/linear.h"
#include "opensora/config.h"

namespace opensora::diffusion {

// The MLP's inner activations are four times as wide as the stream: they are there for so many tokens at a time.
constexpr int64_t kMlpTokens = 2048;

// q, k and v of all tokens: [B, L, H, D] each.
struct QKV {
  at::Tensor fused;  // [B, L, 3C]: the three side by side, where one matrix makes them; otherwise undefined
  at::Tensor q, k, v;

  QKV tokens(int64_t first, int64_t length) const;  // a view
};

struct Workspace {
  at::Tensor x;       // [B, L+N, C], the stream: text tokens, then image tokens
  at::Tensor normed;  // [B, L+N, C], what a layer takes, and then what it gives
  at::Tensor qkv;     // B * (L+N) * 3C elements
  at::Tensor hidden;  // B * min(L+N, kMlpTokens) * (C + mlp_hidden) elements
  // Of the layer that runs, where the checkpoint's weights are of another dtype; of the MLP's second as well.
  std::shared_ptr<nn::WeightBuffer> weights = std::make_shared<nn::WeightBuffer>();
  std::shared_ptr<nn::WeightBuffer> second_weights = std::make_shared<nn::WeightBuffer>();

  // `options`: of the activations.
  Workspace(const MMDiTConfig& config, int64_t batch, int64_t tokens, const at::TensorOptions& options);

  QKV split_qkv(int64_t num_heads, bool fused) const;
  // A part of `hidden` as [B, tokens, width].
  at::Tensor hidden_as(int64_t tokens, int64_t width) const;
};

// Calls work(first, length) for parts of `tokens`, as equal as can be and at most kMlpTokens long.
template <typename Work>
void for_token_chunks(int64_t tokens, Work&& work) {
  const int64_t chunks = (tokens + kMlpTokens - 1) / kMlpTokens;
  for (int64_t i = 0; i < chunks; ++i) {
    const int64_t first = tokens * i / chunks;
    work(first, tokens * (i + 1) / chunks - first);
  }
}

}  // namespace opensora::diffusion
