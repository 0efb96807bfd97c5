#include "autoencoder/dc_ae.h"

#include <algorithm>

#include "core/cpu_features.h"

namespace opensora::autoencoder {
namespace {

// Stages are counted from the pixels inwards.
constexpr int64_t kFirstAttentionStage = 3;

int64_t last_stage(const DCAEConfig& config) { return static_cast<int64_t>(config.width_list.size()) - 1; }

// Between stage i and the deeper i + 1, space changes always and time at two of them.
ResampleOptions resample_after(int64_t i, int64_t in_channels, int64_t out_channels) {
  const bool time = i == 3 || i == 4;
  return {.in_channels = in_channels, .out_channels = out_channels, .space = 2, .time = time ? 2 : 1};
}

// `first`: the place of the stage's first block in its list of operators.
std::vector<DCAEBlock> bind_blocks(const Weights& op_list, int64_t stage, int64_t first, int64_t depth, int64_t width) {
  std::vector<DCAEBlock> blocks;
  for (int64_t i = first; i < first + depth; ++i) {
    if (stage < kFirstAttentionStage) {
      blocks.emplace_back(ResBlock(op_list[i]["main"], width));
    } else {
      blocks.emplace_back(EfficientViTBlock(op_list[i], width));
    }
  }
  return blocks;
}

at::Tensor run_blocks(const std::vector<DCAEBlock>& blocks, at::Tensor x) {
  for (const DCAEBlock& block : blocks) {
    x = std::visit([&](const auto& b) { return b(x); }, block);
  }
  return x;
}

std::vector<DCAEEncoder::Stage> bind_encoder_stages(const Weights& weights, const DCAEConfig& config) {
  std::vector<DCAEEncoder::Stage> stages;
  for (int64_t i = 0; i <= last_stage(config); ++i) {
    const Weights op_list = weights[i]["op_list"];
    const int64_t depth = config.encoder_depths[i], width = config.width_list[i];
    DCAEEncoder::Stage stage{bind_blocks(op_list, i, 0, depth, width), std::nullopt};
    if (i < last_stage(config)) {
      stage.downsample.emplace(op_list[depth]["main"]["conv"], resample_after(i, width, config.width_list[i + 1]));
    }
    stages.push_back(std::move(stage));
  }
  return stages;
}

std::vector<DCAEDecoder::Stage> bind_decoder_stages(const Weights& weights, const DCAEConfig& config) {
  std::vector<DCAEDecoder::Stage> stages;
  for (int64_t i = 0; i <= last_stage(config); ++i) {
    const Weights op_list = weights[i]["op_list"];
    const int64_t depth = config.decoder_depths[i], width = config.width_list[i];
    DCAEDecoder::Stage stage;
    if (i < last_stage(config)) {
      stage.upsample.emplace(op_list[0]["main"]["conv"]["conv"], resample_after(i, config.width_list[i + 1], width));
    }
    stage.blocks = bind_blocks(op_list, i, stage.upsample ? 1 : 0, depth, width);
    stages.push_back(std::move(stage));
  }
  return stages;
}

// A last tile in time of a single latent frame is joined to the one before it: alone it would make one frame, not four.
Tiling make_tiling(const DCAEConfig& c, bool encoding) {
  const auto make = encoding ? TileGeometry::encoding : TileGeometry::decoding;
  const int64_t space = c.spatial_compression(), time = c.temporal_compression();
  Tiling tiling;
  if (c.use_spatial_tiling) tiling.space = make(c.spatial_tile_size / space, space, c.tile_overlap_factor);
  if (c.use_temporal_tiling) {
    tiling.time = TimeGeometry{make(c.temporal_tile_size / time, time, c.tile_overlap_factor)};
    tiling.time->min_tail = encoding ? time : 1;
  }
  return tiling;
}

}  // namespace

DCAEEncoder::DCAEEncoder(const Weights& weights, const DCAEConfig& config)
    : project_in(weights["project_in"]["conv"], 3,
                 {.in_channels = config.in_channels, .out_channels = config.width_list.front()}),
      stages(bind_encoder_stages(weights["stages"], config)),
      project_out(weights["project_out"]["main"]["op_list"][0]["conv"],
                  {.in_channels = config.width_list.back(), .out_channels = config.latent_channels}) {}

at::Tensor DCAEEncoder::operator()(const at::Tensor& frames) const {
  at::Tensor x = project_in(frames);
  for (const Stage& stage : stages) {
    x = run_blocks(stage.blocks, std::move(x));
    if (stage.downsample) x = (*stage.downsample)(x);
  }
  return project_out(x);
}

DCAEDecoder::DCAEDecoder(const Weights& weights, const DCAEConfig& config)
    : project_in(weights["project_in"]["main"]["conv"],
                 {.in_channels = config.latent_channels, .out_channels = config.width_list.back()}),
      stages(bind_decoder_stages(weights["stages"], config)),
      norm_out(weights["project_out"]["op_list"][0], config.width_list.front()),
      project_out(weights["project_out"]["op_list"][2]["conv"], 3,
                  {.in_channels = config.width_list.front(), .out_channels = config.in_channels}) {}

at::Tensor DCAEDecoder::operator()(const at::Tensor& z) const {
  at::Tensor x = project_in(z);
  for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
    if (stage->upsample) x = (*stage->upsample)(x);
    x = run_blocks(stage->blocks, std::move(x));
  }
  return project_out(norm_out(x).relu_());
}

DCAE::DCAE(const Weights& weights, const DCAEConfig& config, Half half)
    : config(config),
      dtype(weights.dtype()),
      computes_in(computing_dtype(dtype, Work::kConvolution, weights.kernel_device())) {
  if (half != Half::kDecoder) encoder.emplace(weights["encoder"], config);
  if (half != Half::kEncoder) decoder.emplace(weights["decoder"], config);
  if (encoder) weights["encoder"].finish();
  if (decoder) weights["decoder"].finish();
}

at::Tensor DCAE::encode(const at::Tensor& frames, const EncodeOptions& options) const {
  TORCH_CHECK(encoder, "DC-AE was bound without its encoder");
  TORCH_CHECK((frames.size(2) == 1 || frames.size(2) % config.temporal_compression() == 0) &&
                  frames.size(3) % spatial_compression() == 0 && frames.size(4) % spatial_compression() == 0,
              "DC-AE encodes 1 or 4k frames with edges that are multiples of 32, found ", frames.sizes());
  return apply_tiled(
      frames.to(computes_in), make_tiling(config, /*encoding=*/true),
      [&](const at::Tensor& x) { return (*encoder)(x).to(dtype); }, options.progress);
}

void DCAE::decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress) const {
  TORCH_CHECK(decoder, "DC-AE was bound without its decoder");
  apply_tiled(
      latent.to(computes_in), make_tiling(config, /*encoding=*/false),
      [&](const at::Tensor& z) { return (*decoder)(z).to(dtype); }, sink, progress);
}

int64_t DCAE::decoded_frames(int64_t latent_frames) const {
  return latent_frames == 1 ? 1 : latent_frames * config.temporal_compression();
}

int64_t DCAE::latent_frames(int64_t frames) const {
  if (frames == 1) return 1;
  const int64_t ratio = config.temporal_compression();
  return std::max<int64_t>(2, (frames + ratio - 1) / ratio);  // a lone latent frame would make one frame
}

}  // namespace opensora::autoencoder
