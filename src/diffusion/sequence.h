// The transformer's sequence: the patches of a latent video as tokens, and their rotary position embedding over the
// three axes of latent frame, row and column.
#pragma once

#include <ATen/ATen.h>

#include "nn/fused.h"
#include "opensora/config.h"

namespace opensora::diffusion {

// [B, C, T, H, W] -> [B, T * H/p * W/p, C * p * p]
at::Tensor pack(const at::Tensor& latent, int64_t patch_size);

// The inverse, for `frames` x `height` x `width` patches.
at::Tensor unpack(const at::Tensor& tokens, int64_t frames, int64_t height, int64_t width, int64_t patch_size);

// Computed once a video size and shared by all blocks and steps; L = text tokens, then image tokens.
using nn::RotaryEmbedding;

// ids: [L, 3] positions on the t, h and w axes.
RotaryEmbedding rotary_embedding(const at::Tensor& ids, const MMDiTConfig& config);

// The ids of a video of `frames` x `height` x `width` patches: [frames * height * width, 3], float32.
at::Tensor image_ids(int64_t frames, int64_t height, int64_t width);
// Text tokens have no position: [length, 3] zeros.
at::Tensor text_ids(int64_t length);

}  // namespace opensora::diffusion
