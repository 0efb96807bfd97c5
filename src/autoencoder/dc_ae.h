// DC-AE: the high-compression autoencoder "dc-ae-f32t4c128" (4x32x32, 128 channels). Not causal, and without posterior
// or scaling.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <variant>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "autoencoder/dc_ae_blocks.h"
#include "core/weights.h"
#include "nn/conv.h"
#include "opensora/config.h"

namespace opensora::autoencoder {

using DCAEBlock = std::variant<ResBlock, EfficientViTBlock>;

struct DCAEEncoder {
  struct Stage {
    std::vector<DCAEBlock> blocks;
    std::optional<Downsample> downsample;  // none in the last
  };
  nn::Conv project_in;
  std::vector<Stage> stages;
  Downsample project_out;  // of width alone

  DCAEEncoder(const Weights& weights, const DCAEConfig& config);
  at::Tensor operator()(const at::Tensor& frames) const;  // [B, 3, 4t, 32h, 32w] -> [B, 128, t, h, w]
};

struct DCAEDecoder {
  struct Stage {
    std::optional<Upsample> upsample;  // none in the deepest
    std::vector<DCAEBlock> blocks;
  };
  Upsample project_in;        // of width alone
  std::vector<Stage> stages;  // from the pixels inwards, as in the checkpoint: the last runs first
  ChannelRMSNorm norm_out;
  nn::Conv project_out;

  DCAEDecoder(const Weights& weights, const DCAEConfig& config);
  at::Tensor operator()(const at::Tensor& z) const;  // [B, 128, t, h, w] -> [B, 3, 4t (1 if t is 1), 32h, 32w]
};

struct DCAE final : Autoencoder {
  DCAEConfig config;
  at::ScalarType dtype, computes_in;  // of results, and of what comes before them
  std::optional<DCAEEncoder> encoder;
  std::optional<DCAEDecoder> decoder;

  DCAE(const Weights& weights, const DCAEConfig& config, Half half = Half::kDecoder);

  at::Tensor encode(const at::Tensor& frames, const EncodeOptions& options = {}) const override;
  void decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress = {}) const override;
  int64_t spatial_compression() const override { return config.spatial_compression(); }
  int64_t decoded_frames(int64_t latent_frames) const override;
  int64_t latent_frames(int64_t frames) const override;
};

}  // namespace opensora::autoencoder
