// HunyuanVAE: the causal 3D autoencoder of Open-Sora 2.0 (4x8x8, 16 channels). This half decodes.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "autoencoder/causal_blocks.h"
#include "autoencoder/tiling.h"
#include "core/weights.h"
#include "opensora/config.h"

namespace opensora::autoencoder {

struct HunyuanDecoder {
  CausalConv3d conv_in;
  MidBlock mid_block;
  std::vector<UpBlock> up_blocks;
  nn::GroupNorm conv_norm_out;
  CausalConv3d conv_out;

  HunyuanDecoder(const Weights& weights, const HunyuanVAEConfig& config);
  at::Tensor operator()(const at::Tensor& z) const;  // [B, 16, t, h, w] -> [B, 3, 4t-3, 8h, 8w]
};

struct HunyuanVAE {
  HunyuanVAEConfig config;
  at::ScalarType dtype;
  at::Tensor post_quant_weight, post_quant_bias;
  HunyuanDecoder decoder;

  // Called after each tile: tiles done and in all.
  using TileProgress = std::function<void(int64_t done, int64_t total)>;

  HunyuanVAE(const Weights& weights, const HunyuanVAEConfig& config);

  // A scaled latent [B, 16, t, h, w] -> frames [B, 3, 4t-3, 8h, 8w], nominally in [-1, 1], not clamped, in the model's
  // dtype. In tiles where the configuration says so and the latent is larger than one.
  at::Tensor decode(const at::Tensor& latent, const TileProgress& progress = {}) const;
};

}  // namespace opensora::autoencoder
