#include "autoencoder/hunyuan_vae.h"

#include <utility>

#include "core/cpu_features.h"

namespace opensora::autoencoder {
namespace {

constexpr double kNormEps = 1e-6;
constexpr int64_t kSpatialLevels = 3, kTemporalLevels = 2;  // where the size changes: 8 = 2^3, 4 = 2^2

// The i-th level in order of computation. Counted so, encoder and decoder change size at the same ones: space after
// the first three, time after the two before the last.
LevelOptions level_options(const HunyuanVAEConfig& config, int64_t i, int64_t in_channels, int64_t out_channels,
                           int64_t layers) {
  const int64_t last = static_cast<int64_t>(config.block_out_channels.size()) - 1;
  return {.in_channels = in_channels,
          .out_channels = out_channels,
          .layers = layers,
          .groups = config.norm_num_groups,
          .resample_space = i < kSpatialLevels,
          .resample_time = i >= last - kTemporalLevels && i < last};
}

std::vector<DownBlock> bind_down_blocks(const Weights& weights, const HunyuanVAEConfig& config) {
  std::vector<DownBlock> blocks;
  int64_t in_channels = config.block_out_channels.front();
  for (const int64_t out_channels : config.block_out_channels) {
    const int64_t i = static_cast<int64_t>(blocks.size());
    blocks.emplace_back(weights[i], level_options(config, i, in_channels, out_channels, config.layers_per_block));
    in_channels = out_channels;
  }
  return blocks;
}

std::vector<UpBlock> bind_up_blocks(const Weights& weights, const HunyuanVAEConfig& config) {
  const std::vector<int64_t> widths(config.block_out_channels.rbegin(), config.block_out_channels.rend());
  std::vector<UpBlock> blocks;
  int64_t in_channels = widths.front();
  for (const int64_t out_channels : widths) {
    const int64_t i = static_cast<int64_t>(blocks.size());
    blocks.emplace_back(weights[i], level_options(config, i, in_channels, out_channels, config.layers_per_block + 1));
    in_channels = out_channels;
  }
  return blocks;
}

nn::Conv pointwise_conv(const Weights& weights, int64_t channels) {
  return {weights, 3, {.in_channels = channels, .out_channels = channels, .kernel_size = 1}};
}

TimeGeometry causal(const TileGeometry& geometry) { return {geometry, /*lead=*/1}; }

// The tiles of one direction; `make` is TileGeometry::encoding or ::decoding.
template <typename Make>
Tiling make_tiling(const HunyuanVAEConfig& c, Make make) {
  const int64_t space = c.spatial_compression(), time = c.temporal_compression();
  Tiling tiling;
  if (c.use_spatial_tiling) tiling.space = make(c.sample_size / space, space, c.tile_overlap_factor);
  if (c.use_temporal_tiling) tiling.time = causal(make(c.sample_tsize / time, time, c.tile_overlap_factor));
  return tiling;
}

}  // namespace

HunyuanEncoder::HunyuanEncoder(const Weights& weights, const HunyuanVAEConfig& config)
    : conv_in(weights["encoder"]["conv_in"], config.in_channels, config.block_out_channels.front()),
      down_blocks(bind_down_blocks(weights["encoder"]["down_blocks"], config)),
      mid_block(weights["encoder"]["mid_block"], config.block_out_channels.back(), config.norm_num_groups),
      conv_norm_out(weights["encoder"]["conv_norm_out"], config.block_out_channels.back(), config.norm_num_groups,
                    kNormEps),
      conv_out(weights["encoder"]["conv_out"], config.block_out_channels.back(), 2 * config.latent_channels),
      quant_conv(pointwise_conv(weights["quant_conv"], 2 * config.latent_channels)) {}

at::Tensor HunyuanEncoder::operator()(const at::Tensor& frames) const {
  at::Tensor x = conv_in(frames);
  for (const DownBlock& block : down_blocks) x = block(std::move(x));
  x = mid_block(std::move(x));
  return quant_conv(conv_out.after(conv_norm_out.affine(x), x));
}

HunyuanDecoder::HunyuanDecoder(const Weights& weights, const HunyuanVAEConfig& config)
    : post_quant_conv(pointwise_conv(weights["post_quant_conv"], config.latent_channels)),
      conv_in(weights["decoder"]["conv_in"], config.latent_channels, config.block_out_channels.back()),
      mid_block(weights["decoder"]["mid_block"], config.block_out_channels.back(), config.norm_num_groups),
      up_blocks(bind_up_blocks(weights["decoder"]["up_blocks"], config)),
      conv_norm_out(weights["decoder"]["conv_norm_out"], config.block_out_channels.front(), config.norm_num_groups,
                    kNormEps),
      conv_out(weights["decoder"]["conv_out"], config.block_out_channels.front(), config.out_channels) {}

at::Tensor HunyuanDecoder::operator()(const at::Tensor& z) const {
  at::Tensor x = mid_block(conv_in(post_quant_conv(z)));
  for (const UpBlock& block : up_blocks) x = block(std::move(x));
  return conv_out.after(conv_norm_out.affine(x), x);
}

HunyuanVAE::HunyuanVAE(const Weights& weights, const HunyuanVAEConfig& config, Half half)
    : config(config),
      dtype(weights.dtype()),
      computes_in(computing_dtype(dtype, Work::kConvolution, weights.kernel_device())) {
  if (half != Half::kDecoder) encoder.emplace(weights, config);
  if (half != Half::kEncoder) decoder.emplace(weights, config);
  if (encoder) weights["encoder"].finish();
  if (decoder) weights["decoder"].finish();
}

at::Tensor HunyuanVAE::encode_moments(const at::Tensor& frames, const TileProgress& progress) const {
  TORCH_CHECK(encoder, "HunyuanVAE was bound without its encoder");
  TORCH_CHECK(frames.size(2) % config.temporal_compression() == 1 && frames.size(3) % spatial_compression() == 0 &&
                  frames.size(4) % spatial_compression() == 0,
              "HunyuanVAE encodes 4k+1 frames with edges that are multiples of 8, found ", frames.sizes());
  return apply_tiled(
      frames.to(computes_in), make_tiling(config, TileGeometry::encoding),
      [&](const at::Tensor& x) { return (*encoder)(x).to(dtype); }, progress);
}

at::Tensor HunyuanVAE::encode(const at::Tensor& frames, const EncodeOptions& options) const {
  const at::Tensor z = latent_of_moments(encode_moments(frames, options.progress), options.generator);
  return (z - config.shift_factor) * config.scale_factor;
}

void HunyuanVAE::decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress) const {
  TORCH_CHECK(decoder, "HunyuanVAE was bound without its decoder");
  const at::Tensor z = (latent / config.scale_factor + config.shift_factor).to(computes_in);
  apply_tiled(
      z, make_tiling(config, TileGeometry::decoding),
      [&](const at::Tensor& part) { return (*decoder)(part).to(dtype); }, sink, progress);
}

int64_t HunyuanVAE::decoded_frames(int64_t latent_frames) const {
  return (latent_frames - 1) * config.temporal_compression() + 1;
}

int64_t HunyuanVAE::latent_frames(int64_t frames) const {
  const int64_t ratio = config.temporal_compression();
  return (frames - 1 + ratio - 1) / ratio + 1;
}

}  // namespace opensora::autoencoder
