// Rotary position embedding over three axes: latent frame, row, column.
#pragma once

#include <ATen/ATen.h>

#include "nn/fused.h"
#include "opensora/config.h"

namespace opensora::diffusion {

// Computed once a video size and shared by all blocks and steps; L = text tokens, then image tokens.
using nn::RotaryEmbedding;

// ids: [L, 3] positions on the t, h and w axes.
RotaryEmbedding rotary_embedding(const at::Tensor& ids, const MMDiTConfig& config);

// The ids of a video of `frames` x `height` x `width` patches: [frames * height * width, 3], float32.
at::Tensor image_ids(int64_t frames, int64_t height, int64_t width);
// Text tokens have no position: [length, 3] zeros.
at::Tensor text_ids(int64_t length);

}  // namespace opensora::diffusion
