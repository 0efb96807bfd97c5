#include "autoencoder/hunyuan_vae.h"

namespace opensora::autoencoder {
namespace {

constexpr double kNormEps = 1e-6;

// The decoder's levels run from the deepest: space is doubled after the first three, time after the two before the
// last.
std::vector<UpBlock> bind_up_blocks(const Weights& weights, const HunyuanVAEConfig& config) {
  constexpr int64_t kSpatialLevels = 3, kTemporalLevels = 2;
  const int64_t levels = static_cast<int64_t>(config.block_out_channels.size());
  std::vector<UpBlock> blocks;
  int64_t in_channels = config.block_out_channels.back();
  for (int64_t i = 0; i < levels; ++i) {
    const int64_t out_channels = config.block_out_channels[levels - 1 - i];
    const bool last = i == levels - 1;
    blocks.emplace_back(weights[i], UpBlock::Options{.in_channels = in_channels,
                                                     .out_channels = out_channels,
                                                     .layers = config.layers_per_block + 1,
                                                     .groups = config.norm_num_groups,
                                                     .upsample_space = i < kSpatialLevels,
                                                     .upsample_time = i >= levels - 1 - kTemporalLevels && !last});
    in_channels = out_channels;
  }
  return blocks;
}

}  // namespace

HunyuanDecoder::HunyuanDecoder(const Weights& weights, const HunyuanVAEConfig& config)
    : conv_in(weights["conv_in"], config.latent_channels, config.block_out_channels.back()),
      mid_block(weights["mid_block"], config.block_out_channels.back(), config.norm_num_groups),
      up_blocks(bind_up_blocks(weights["up_blocks"], config)),
      conv_norm_out(weights["conv_norm_out"], config.block_out_channels.front(), config.norm_num_groups, kNormEps),
      conv_out(weights["conv_out"], config.block_out_channels.front(), config.out_channels) {}

at::Tensor HunyuanDecoder::operator()(const at::Tensor& z) const {
  at::Tensor x = mid_block(conv_in(z));
  for (const UpBlock& block : up_blocks) x = block(std::move(x));
  return conv_out(silu_in_place(conv_norm_out(x)));
}

HunyuanVAE::HunyuanVAE(const Weights& weights, const HunyuanVAEConfig& config)
    : config(config),
      dtype(weights.dtype()),
      post_quant_weight(
          weights["post_quant_conv"].tensor("weight", {config.latent_channels, config.latent_channels, 1, 1, 1})),
      post_quant_bias(weights["post_quant_conv"].tensor("bias", {config.latent_channels})),
      decoder(weights["decoder"], config) {
  weights["decoder"].finish();
}

at::Tensor HunyuanVAE::decode(const at::Tensor& latent, const TileProgress& progress) const {
  const at::Tensor z = (latent / config.scale_factor + config.shift_factor).to(dtype);
  const int64_t tile = config.sample_size >> (config.block_out_channels.size() - 1);
  const TileGeometry space = TileGeometry::make(tile, config.sample_size, config.tile_overlap_factor);
  const TileGeometry time = TileGeometry::make(config.sample_tsize / config.temporal_compression(), config.sample_tsize,
                                               config.tile_overlap_factor);
  const bool in_space = config.use_spatial_tiling && (z.size(3) > space.tile || z.size(4) > space.tile);
  const bool in_time = config.use_temporal_tiling && z.size(2) > time.tile;

  int64_t done = 0;
  const int64_t total = (in_space ? tile_count(z.size(3), space.stride) * tile_count(z.size(4), space.stride) : 1) *
                        (in_time ? causal_tile_count(z.size(2), time.stride) : 1);
  const TileFunction decode_tile = [&](const at::Tensor& part) {
    at::Tensor frames = decoder(at::conv3d(part, post_quant_weight.to(dtype), post_quant_bias.to(dtype)));
    if (progress) progress(++done, total);
    return frames;
  };
  const TileFunction decode_frames = [&](const at::Tensor& part) {
    return in_space ? tile_space(part, space, decode_tile) : decode_tile(part);
  };
  return in_time ? tile_time_causal(z, time, decode_frames) : decode_frames(z);
}

}  // namespace opensora::autoencoder
