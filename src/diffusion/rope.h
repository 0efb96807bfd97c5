// Rotary position embedding over three axes: latent frame, row, column.
#pragma once

#include <ATen/ATen.h>

#include "opensora/config.h"

namespace opensora::diffusion {

// cos and sin of every position's angles; computed once a video size and shared by all blocks and steps.
struct RotaryEmbedding {
  at::Tensor cos, sin;  // [L, D/2], float32; L = text tokens, then image tokens
  bool rotate_half;     // pairs are (i, i + D/2); otherwise (2i, 2i + 1)
};

// ids: [L, 3] positions on the t, h and w axes.
RotaryEmbedding rotary_embedding(const at::Tensor& ids, const MMDiTConfig& config);

// The ids of a video of `frames` x `height` x `width` patches: [frames * height * width, 3], float32.
at::Tensor image_ids(int64_t frames, int64_t height, int64_t width);
// Text tokens have no position: [length, 3] zeros.
at::Tensor text_ids(int64_t length);

// Rotates x: [B, L, H, D], in float32; returns x's dtype.
at::Tensor apply_rope(const at::Tensor& x, const RotaryEmbedding& pe);

}  // namespace opensora::diffusion
