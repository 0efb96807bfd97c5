#include "diffusion/sequence.h"

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

RotaryEmbedding rotary_embedding(const at::Tensor& ids, const MMDiTConfig& config) {
  // As in the official code, FLUX's interleaved tables are computed in float64, the rotate-half ones in float32.
  const at::ScalarType precision = config.use_liger_rope ? at::kFloat : at::kDouble;
  const auto options = at::TensorOptions().dtype(precision).device(ids.device());
  std::vector<at::Tensor> angles;
  for (size_t axis = 0; axis < config.axes_dim.size(); ++axis) {
    const int64_t dim = config.axes_dim[axis];
    const at::Tensor exponent = at::arange(0, dim, 2, options) / dim;
    const at::Tensor omega = at::pow(static_cast<double>(config.theta), exponent).reciprocal();
    angles.push_back(at::outer(ids.select(1, static_cast<int64_t>(axis)).to(precision), omega));  // [L, dim/2]
  }
  const at::Tensor angle = at::cat(angles, 1);  // [L, D/2]
  return {angle.cos().to(at::kFloat), angle.sin().to(at::kFloat), config.use_liger_rope};
}

at::Tensor image_ids(int64_t frames, int64_t height, int64_t width) {
  const auto axis = [](int64_t length) { return at::arange(length, at::kFloat); };
  const std::vector<at::Tensor> grid = at::meshgrid({axis(frames), axis(height), axis(width)}, "ij");
  return at::stack(grid, -1).reshape({-1, 3});  // row-major over t, h, w
}

at::Tensor text_ids(int64_t length) { return at::zeros({length, 3}, at::kFloat); }

}  // namespace opensora::diffusion
