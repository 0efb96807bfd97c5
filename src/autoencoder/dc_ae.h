// DC-AE: the high-compression autoencoder "dc-ae-f32t4c128" (4x32x32, 128 channels). Not causal, and without posterior
// or scaling. Its layers are residual blocks, EfficientViT blocks with linear attention, and changes of size with
// parameter-free shortcuts.
//
// Activations are [B, C, T, H, W]; convolutions are padded with zeros on all sides, in time too. Members have the
// checkpoint's names.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <variant>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "core/weights.h"
#include "nn/conv.h"
#include "opensora/config.h"

namespace opensora::autoencoder {

// x / sqrt(mean of x^2 over the channels + 1e-5) * weight + bias, in float32.
struct ChannelRMSNorm {
  at::Tensor weight, bias;  // [C]

  ChannelRMSNorm(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// Two convolutions around the identity.
struct ResBlock {
  nn::Conv conv1, conv2;
  ChannelRMSNorm norm;  // after conv2

  ResBlock(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// Attention with ReLU for softmax: linear in the number of positions, all of which attend to each other. The heads
// (32 channels each) come in two scales: q, k, v as they are, and aggregated over 5x5x5 positions.
struct LiteMLA {
  nn::Conv qkv;
  nn::Conv aggregate_space, aggregate_heads;  // a filter for each channel, then a mix within each head's q, k or v
  nn::Conv proj;
  ChannelRMSNorm proj_norm;

  LiteMLA(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// A gated linear unit around a depth-wise convolution, four times as wide as the block.
struct GLUMBConv {
  nn::Conv inverted_conv, depth_conv, point_conv;
  ChannelRMSNorm point_norm;

  GLUMBConv(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

struct EfficientViTBlock {
  LiteMLA context_module;
  GLUMBConv local_module;

  EfficientViTBlock(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// A change of width, and of size by `space` (height and width) and `time`: 1 or 2 each. A lone frame stays lone.
struct ResampleOptions {
  int64_t in_channels, out_channels;
  int64_t space = 1, time = 1;
};

// A strided convolution; the shortcut folds positions into channels and averages groups of those.
struct Downsample {
  ResampleOptions options;
  nn::Conv conv;

  Downsample(const Weights& conv_weights, const ResampleOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;
};

// Nearest-neighbour enlargement and a convolution; the shortcut duplicates channels and unfolds them into positions.
struct Upsample {
  ResampleOptions options;
  nn::Conv conv;

  Upsample(const Weights& conv_weights, const ResampleOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;
};

using DCAEBlock = std::variant<ResBlock, EfficientViTBlock>;

// Blocks of one size and, in all stages but the deepest, what changes it: in the encoder behind them, in the decoder in
// front.
template <typename Resample>
struct DCAEStage {
  std::vector<DCAEBlock> blocks;
  std::optional<Resample> resample;
};

struct DCAEEncoder {
  nn::Conv project_in;
  std::vector<DCAEStage<Downsample>> stages;
  Downsample project_out;  // of width alone

  DCAEEncoder(const Weights& weights, const DCAEConfig& config);
  at::Tensor operator()(const at::Tensor& frames) const;  // [B, 3, 4t, 32h, 32w] -> [B, 128, t, h, w]
};

struct DCAEDecoder {
  Upsample project_in;                      // of width alone
  std::vector<DCAEStage<Upsample>> stages;  // from the pixels inwards, as in the checkpoint: the last runs first
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

  at::Tensor encode(const at::Tensor& frames, const std::optional<at::Generator>& generator = {},
                    const TileProgress& progress = {}) const override;
  void decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress = {}) const override;
  int64_t spatial_compression() const override { return config.spatial_compression(); }
  int64_t decoded_frames(int64_t latent_frames) const override;
  int64_t latent_frames(int64_t frames) const override;
};

}  // namespace opensora::autoencoder
