// FLUX.1's image autoencoder (8x8, 16 channels). A video goes through it frame by frame.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "core/weights.h"
#include "nn/conv.h"
#include "nn/norm.h"
#include "opensora/config.h"

namespace opensora::autoencoder {

// Activations are [B, C, H, W]; members have the checkpoint's names.
struct ResnetBlock2D {
  nn::GroupNorm norm1;
  nn::Conv conv1;
  nn::GroupNorm norm2;
  nn::Conv conv2;
  std::optional<nn::Conv> nin_shortcut;  // where the width changes

  ResnetBlock2D(const Weights& weights, int64_t in_channels, int64_t out_channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// One head as wide as the block over all pixels.
struct AttnBlock2D {
  nn::GroupNorm norm;
  nn::Conv q, k, v, proj_out;

  AttnBlock2D(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

struct MidBlock2D {
  ResnetBlock2D block_1;
  AttnBlock2D attn_1;
  ResnetBlock2D block_2;

  MidBlock2D(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// A level of either half: residual blocks, then the change of size (none in the last level that runs).
struct Level2D {
  std::vector<ResnetBlock2D> block;
  std::optional<nn::Conv> resample;  // "downsample": stride 2; "upsample": after nearest-neighbour enlargement
};

struct Encoder2D {
  nn::Conv conv_in;
  std::vector<Level2D> down;
  MidBlock2D mid;
  nn::GroupNorm norm_out;
  nn::Conv conv_out;

  Encoder2D(const Weights& weights, const Autoencoder2DConfig& config);
  at::Tensor operator()(const at::Tensor& x) const;  // [B, 3, 8h, 8w] -> moments [B, 2*16, h, w]
};

struct Decoder2D {
  nn::Conv conv_in;
  MidBlock2D mid;
  std::vector<Level2D> up;  // by the checkpoint's index: the last runs first
  nn::GroupNorm norm_out;
  nn::Conv conv_out;

  Decoder2D(const Weights& weights, const Autoencoder2DConfig& config);
  at::Tensor operator()(const at::Tensor& z) const;  // [B, 16, h, w] -> [B, 3, 8h, 8w]
};

struct Autoencoder2D final : Autoencoder {
  Autoencoder2DConfig config;
  at::ScalarType dtype, computes_in;  // of results, and of what comes before them
  std::optional<Encoder2D> encoder;
  std::optional<Decoder2D> decoder;

  Autoencoder2D(const Weights& weights, const Autoencoder2DConfig& config, Half half = Half::kDecoder);

  // Both also take images without a time axis, [B, C, H, W], and then return such. Frames go through one by one, which
  // is what the progress counts: nothing is tiled.
  at::Tensor encode(const at::Tensor& frames, const std::optional<at::Generator>& generator = {},
                    const TileProgress& progress = {}) const override;
  at::Tensor decode(const at::Tensor& latent, const TileProgress& progress = {}) const override;
  void decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress = {}) const override;
  int64_t spatial_compression() const override { return int64_t{1} << (config.ch_mult.size() - 1); }
  int64_t decoded_frames(int64_t latent_frames) const override { return latent_frames; }
  int64_t latent_frames(int64_t frames) const override { return frames; }
};

}  // namespace opensora::autoencoder
