// HunyuanVAE: the causal 3D autoencoder of Open-Sora 2.0 (4x8x8, 16 channels), and its layers: causal 3D convolutions,
// residual blocks, frame-causal attention.
//
// Activations are [B, C, T, H, W] with the channels innermost in memory: frames then lie one after another, and layers
// run over a few of them at a time. Only a block's input and what it makes of it are ever there whole.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "core/weights.h"
#include "nn/conv.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "opensora/config.h"

namespace opensora::autoencoder {

// A cubic kernel; edges are replicated, in time only backward: a frame depends on earlier frames alone.
struct CausalConv3d {
  using Stride = std::array<int64_t, 3>;  // time, height, width

  at::Tensor weight;  // [out, in, k, k, k]
  at::Tensor bias;    // [out]
  Stride stride;

  CausalConv3d(const Weights& weights, int64_t in_channels, int64_t out_channels, int64_t kernel_size = 3,
               Stride stride = {1, 1, 1});
  at::Tensor operator()(const at::Tensor& x) const;
  at::Tensor after(const nn::ChannelAffine& norm, const at::Tensor& x) const;  // of silu(norm(x))

  // In parts: `read` writes what is convolved of some frames of x; `place` says where some frames of the result go,
  // from the first-th on. It is called when what they depend on has been read, so it may be x's memory. `add`: to what
  // is there.
  using Read = std::function<void(const at::Tensor& x, const at::Tensor& frames)>;
  using Place = std::function<at::Tensor(int64_t first, int64_t count)>;
  void run(const at::Tensor& x, const Read& read, const Place& place, bool add) const;

 private:
  at::Tensor run(const at::Tensor& x, const Read& read) const;
  at::Tensor mix_channels(const at::Tensor& x) const;  // of kernel size 1
};

// Writes over its input.
struct ResnetBlock {
  nn::GroupNorm norm1, norm2;
  CausalConv3d conv1, conv2;
  std::optional<CausalConv3d> conv_shortcut;  // where the width changes

  ResnetBlock(const Weights& weights, int64_t in_channels, int64_t out_channels, int64_t groups);
  at::Tensor operator()(at::Tensor x) const;
};

// One head as wide as the block; a frame attends to itself and the frames before it. Writes over its input.
struct FrameCausalAttention {
  nn::GroupNorm group_norm;
  nn::Linear to_q, to_k, to_v, to_out;

  FrameCausalAttention(const Weights& weights, int64_t channels, int64_t groups);
  at::Tensor operator()(const at::Tensor& x) const;
};

struct MidBlock {
  ResnetBlock before;
  FrameCausalAttention attention;
  ResnetBlock after;

  MidBlock(const Weights& weights, int64_t channels, int64_t groups);
  at::Tensor operator()(at::Tensor x) const;
};

// Nearest-neighbour up-sampling, then a convolution. The first frame stays single in time.
struct CausalUpsample {
  bool space, time;  // doubled or not
  CausalConv3d conv;

  CausalUpsample(const Weights& weights, int64_t channels, bool space, bool time);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  void run_enlarged(const at::Tensor& x, const at::Tensor& out) const;
  void run_phases(const at::Tensor& x, const at::Tensor& out) const;
};

// A level of the encoder or of the decoder: residual blocks, then the change of size to the next level.
struct LevelOptions {
  int64_t in_channels, out_channels, layers, groups;
  bool resample_space, resample_time;  // halved or doubled; neither in the last level
};

struct DownBlock {
  std::vector<ResnetBlock> resnets;
  std::optional<CausalConv3d> downsampler;  // of stride 2: the first frame stays single in time

  DownBlock(const Weights& weights, const LevelOptions& options);
  at::Tensor operator()(at::Tensor x) const;
};

struct UpBlock {
  std::vector<ResnetBlock> resnets;
  std::optional<CausalUpsample> upsampler;

  UpBlock(const Weights& weights, const LevelOptions& options);
  at::Tensor operator()(at::Tensor x) const;
};

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

  at::Tensor encode(const at::Tensor& frames, const std::optional<at::Generator>& generator = {},
                    const TileProgress& progress = {}) const override;
  void decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress = {}) const override;
  int64_t spatial_compression() const override { return config.spatial_compression(); }
  int64_t decoded_frames(int64_t latent_frames) const override;
  int64_t latent_frames(int64_t frames) const override;
};

}  // namespace opensora::autoencoder
