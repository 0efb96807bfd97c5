// HunyuanVAE: the causal 3D autoencoder of Open-Sora 2.0 (4x8x8, 16 channels).
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "autoencoder/causal_blocks.h"
#include "core/weights.h"
#include "nn/conv.h"
#include "opensora/config.h"

namespace opensora::autoencoder {

struct HunyuanEncoder {
  CausalConv3d conv_in;
  std::vector<DownBlock> down_blocks;
  MidBlock mid_block;
  nn::GroupNorm conv_norm_out;
  CausalConv3d conv_out;
  nn::Conv quant_conv;  // beside the encoder in the checkpoint

  HunyuanEncoder(const Weights& weights, const HunyuanVAEConfig& config);
  at::Tensor operator()(const at::Tensor& x) const;  // [B, 3, 4t-3, 8h, 8w] -> moments [B, 2*16, t, h, w]
};

struct HunyuanDecoder {
  nn::Conv post_quant_conv;  // beside the decoder in the checkpoint
  CausalConv3d conv_in;
  MidBlock mid_block;
  std::vector<UpBlock> up_blocks;
  nn::GroupNorm conv_norm_out;
  CausalConv3d conv_out;

  HunyuanDecoder(const Weights& weights, const HunyuanVAEConfig& config);
  at::Tensor operator()(const at::Tensor& z) const;  // [B, 16, t, h, w] -> [B, 3, 4t-3, 8h, 8w]
};

struct HunyuanVAE final : Autoencoder {
  HunyuanVAEConfig config;
  at::ScalarType dtype, computes_in;  // of results, and of what comes before them
  std::optional<HunyuanEncoder> encoder;
  std::optional<HunyuanDecoder> decoder;

  HunyuanVAE(const Weights& weights, const HunyuanVAEConfig& config, Half half = Half::kDecoder);

  // The posterior: mean and log-variance in channels [0, 16) and [16, 32), not scaled.
  at::Tensor encode_moments(const at::Tensor& frames, const TileProgress& progress = {}) const;

  at::Tensor encode(const at::Tensor& frames, const EncodeOptions& options = {}) const override;
  void decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress = {}) const override;
  int64_t spatial_compression() const override { return config.spatial_compression(); }
  int64_t decoded_frames(int64_t latent_frames) const override;
  int64_t latent_frames(int64_t frames) const override;
};

}  // namespace opensora::autoencoder
