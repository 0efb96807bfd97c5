// Between a latent video and the transformer's sequence of patches.
#pragma once

#include <ATen/ATen.h>

namespace opensora::diffusion {

// [B, C, T, H, W] -> [B, T * H/p * W/p, C * p * p]
at::Tensor pack(const at::Tensor& latent, int64_t patch_size);

// The inverse, for `frames` x `height` x `width` patches.
at::Tensor unpack(const at::Tensor& tokens, int64_t frames, int64_t height, int64_t width, int64_t patch_size);

}  // namespace opensora::diffusion
