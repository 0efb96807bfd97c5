#include "diffusion/packing.h"

namespace opensora::diffusion {

at::Tensor pack(const at::Tensor& latent, int64_t patch_size) {
  const int64_t b = latent.size(0), c = latent.size(1), t = latent.size(2), p = patch_size;
  const int64_t h = latent.size(3) / p, w = latent.size(4) / p;
  return latent.reshape({b, c, t, h, p, w, p})
      .permute({0, 2, 3, 5, 1, 4, 6})  // [B, T, H, W, C, p, p]
      .reshape({b, t * h * w, c * p * p});
}

at::Tensor unpack(const at::Tensor& tokens, int64_t frames, int64_t height, int64_t width, int64_t patch_size) {
  const int64_t b = tokens.size(0), p = patch_size, c = tokens.size(2) / (p * p);
  return tokens.reshape({b, frames, height, width, c, p, p})
      .permute({0, 4, 1, 2, 5, 3, 6})  // [B, C, T, H, p, W, p]
      .reshape({b, c, frames, height * p, width * p});
}

}  // namespace opensora::diffusion
