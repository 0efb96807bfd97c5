#include "autoencoder/dc_ae.h"

#include <algorithm>

#include "core/cpu_features.h"
#include "core/trace.h"
#include "nn/norm.h"
#include "opensora/process.h"

namespace opensora::autoencoder {
namespace {

constexpr double kRmsNormEps = 1e-5;
constexpr double kAttentionEps = 1e-15;
constexpr int64_t kHeadDim = 32;
constexpr int64_t kAggregation = 5;  // positions along each axis
constexpr int64_t kExpansion = 4;    // of GLUMBConv

nn::Conv conv3d(const Weights& weights, const nn::ConvOptions& options) { return {weights, 3, options}; }

nn::Conv pointwise(const Weights& weights, int64_t in_channels, int64_t out_channels, bool bias) {
  return conv3d(weights, {.in_channels = in_channels, .out_channels = out_channels, .kernel_size = 1, .bias = bias});
}

nn::Conv depthwise(const Weights& weights, int64_t channels, int64_t kernel_size, bool bias) {
  return conv3d(weights, {.in_channels = channels,
                          .out_channels = channels,
                          .kernel_size = kernel_size,
                          .groups = channels,
                          .bias = bias});
}

// Blocks of `time` x `space` x `space` positions become channels, [B, C*b, T/time, H/space, W/space], and each run of
// those is averaged to one of `channels`.
at::Tensor average_channels(const at::Tensor& x, int64_t channels, int64_t time, int64_t space) {
  const int64_t b = x.size(0), c = x.size(1), t = x.size(2) / time, h = x.size(3) / space, w = x.size(4) / space;
  const at::Tensor folded =
      x.reshape({b, c, t, time, h, space, w, space}).permute({0, 1, 3, 5, 7, 2, 4, 6});  // [B, C, time, s, s, T, H, W]
  return folded.reshape({b, channels, c * time * space * space / channels, t, h, w}).mean(2);
}

// The way back: each channel is repeated as often as it takes, and runs of them become blocks of positions.
at::Tensor duplicate_channels(const at::Tensor& x, int64_t channels, int64_t time, int64_t space) {
  const int64_t b = x.size(0), c = x.size(1), t = x.size(2), h = x.size(3), w = x.size(4);
  return x.repeat_interleave(channels * time * space * space / c, 1)
      .reshape({b, channels, time, space, space, t, h, w})
      .permute({0, 1, 5, 2, 6, 3, 7, 4})  // [B, C, T, time, H, s, W, s]
      .reshape({b, channels, t * time, h * space, w * space});
}

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

std::vector<DCAEStage<Downsample>> bind_encoder_stages(const Weights& weights, const DCAEConfig& config) {
  std::vector<DCAEStage<Downsample>> stages;
  for (int64_t i = 0; i <= last_stage(config); ++i) {
    const Weights op_list = weights[i]["op_list"];
    const int64_t depth = config.encoder_depths[i], width = config.width_list[i];
    DCAEStage<Downsample> stage{bind_blocks(op_list, i, 0, depth, width), std::nullopt};
    if (i < last_stage(config)) {
      stage.resample.emplace(op_list[depth]["main"]["conv"], resample_after(i, width, config.width_list[i + 1]));
    }
    stages.push_back(std::move(stage));
  }
  return stages;
}

std::vector<DCAEStage<Upsample>> bind_decoder_stages(const Weights& weights, const DCAEConfig& config) {
  std::vector<DCAEStage<Upsample>> stages;
  for (int64_t i = 0; i <= last_stage(config); ++i) {
    const Weights op_list = weights[i]["op_list"];
    const int64_t depth = config.decoder_depths[i], width = config.width_list[i];
    DCAEStage<Upsample> stage;
    if (i < last_stage(config)) {
      stage.resample.emplace(op_list[0]["main"]["conv"]["conv"], resample_after(i, config.width_list[i + 1], width));
    }
    stage.blocks = bind_blocks(op_list, i, stage.resample ? 1 : 0, depth, width);
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

ChannelRMSNorm::ChannelRMSNorm(const Weights& weights, int64_t channels)
    : weight(weights.tensor("weight", {channels})), bias(weights.tensor("bias", {channels})) {}

at::Tensor ChannelRMSNorm::operator()(const at::Tensor& x) const {
  const at::ScalarType dtype = x.scalar_type();
  const double channels = static_cast<double>(x.size(1));
  // Computed from the norm, so that no square of x is kept.
  const at::Tensor norm = at::linalg_vector_norm(x, 2, at::IntArrayRef{1}, /*keepdim=*/true, at::kFloat);
  const at::Tensor inverse_rms = at::rsqrt(norm.square() / channels + kRmsNormEps);  // [B, 1, T, H, W]
  const std::vector<int64_t> shape = {-1, 1, 1, 1};
  return (x * inverse_rms).to(dtype).mul_(weight.to(dtype).reshape(shape)).add_(bias.to(dtype).reshape(shape));
}

ResBlock::ResBlock(const Weights& weights, int64_t channels)
    : conv1(conv3d(weights["conv1"]["conv"], {.in_channels = channels, .out_channels = channels})),
      conv2(conv3d(weights["conv2"]["conv"], {.in_channels = channels, .out_channels = channels, .bias = false})),
      norm(weights["conv2"]["norm"], channels) {}

at::Tensor ResBlock::operator()(const at::Tensor& x) const {
  throw_if_stopped();
  const TraceSpan span("ResBlock");
  return norm(conv2(nn::silu_in_place(conv1(x)))).add_(x);
}

LiteMLA::LiteMLA(const Weights& weights, int64_t channels)
    : qkv(pointwise(weights["qkv"]["conv"], channels, 3 * channels, false)),
      aggregate_space(depthwise(weights["aggreg"][0][0], 3 * channels, kAggregation, false)),
      aggregate_heads(conv3d(weights["aggreg"][0][1], {.in_channels = 3 * channels,
                                                       .out_channels = 3 * channels,
                                                       .kernel_size = 1,
                                                       .groups = 3 * channels / kHeadDim,
                                                       .bias = false})),
      proj(pointwise(weights["proj"]["conv"], 2 * channels, channels, false)),
      proj_norm(weights["proj"]["norm"], channels) {}

at::Tensor LiteMLA::operator()(const at::Tensor& x) const {
  const at::Tensor one = qkv(x);
  const at::Tensor both = at::cat({one, aggregate_heads(aggregate_space(one))}, 1);
  // In float32, as the sums run over all positions.
  const int64_t positions = x.size(2) * x.size(3) * x.size(4);
  const at::Tensor heads = both.to(at::kFloat).reshape({x.size(0), -1, 3 * kHeadDim, positions});
  const at::Tensor q = heads.slice(2, 0, kHeadDim).relu();             // [B, heads, D, N]
  const at::Tensor k = heads.slice(2, kHeadDim, 2 * kHeadDim).relu();  // likewise
  const at::Tensor v = heads.slice(2, 2 * kHeadDim);
  const at::Tensor attended = at::matmul(at::matmul(v, k.transpose(2, 3)), q);         // [B, heads, D, N]
  const at::Tensor weight = at::matmul(k.sum(3).unsqueeze(2), q).add_(kAttentionEps);  // [B, heads, 1, N]
  std::vector<int64_t> shape = x.sizes().vec();
  shape[1] = 2 * x.size(1);
  return proj_norm(proj((attended / weight).reshape(shape).to(x.scalar_type())));
}

GLUMBConv::GLUMBConv(const Weights& weights, int64_t channels)
    : inverted_conv(pointwise(weights["inverted_conv"]["conv"], channels, 2 * kExpansion * channels, true)),
      depth_conv(depthwise(weights["depth_conv"]["conv"], 2 * kExpansion * channels, 3, true)),
      point_conv(pointwise(weights["point_conv"]["conv"], kExpansion * channels, channels, false)),
      point_norm(weights["point_conv"]["norm"], channels) {}

at::Tensor GLUMBConv::operator()(const at::Tensor& x) const {
  const std::vector<at::Tensor> halves = depth_conv(nn::silu_in_place(inverted_conv(x))).chunk(2, 1);  // value, gate
  return point_norm(point_conv(halves[0] * at::silu(halves[1])));
}

EfficientViTBlock::EfficientViTBlock(const Weights& weights, int64_t channels)
    : context_module(weights["context_module"]["main"], channels),
      local_module(weights["local_module"]["main"], channels) {}

at::Tensor EfficientViTBlock::operator()(const at::Tensor& x) const {
  throw_if_stopped();
  const TraceSpan span("EfficientViTBlock");
  const at::Tensor h = context_module(x).add_(x);
  return local_module(h).add_(h);
}

Downsample::Downsample(const Weights& conv_weights, const ResampleOptions& o)
    : options(o),
      conv(conv3d(
          conv_weights,
          {.in_channels = o.in_channels, .out_channels = o.out_channels, .stride = {o.time, o.space, o.space}})) {}

at::Tensor Downsample::operator()(const at::Tensor& x) const {
  const int64_t time = x.size(2) == 1 ? 1 : options.time;
  return conv(x).add_(average_channels(x, options.out_channels, time, options.space));
}

Upsample::Upsample(const Weights& conv_weights, const ResampleOptions& o)
    : options(o), conv(conv3d(conv_weights, {.in_channels = o.in_channels, .out_channels = o.out_channels})) {}

at::Tensor Upsample::operator()(const at::Tensor& x) const {
  const int64_t time = x.size(2) == 1 ? 1 : options.time;
  return conv(nn::upsample_nearest(x, {time, options.space, options.space}))
      .add_(duplicate_channels(x, options.out_channels, time, options.space));
}

DCAEEncoder::DCAEEncoder(const Weights& weights, const DCAEConfig& config)
    : project_in(weights["project_in"]["conv"], 3,
                 {.in_channels = config.in_channels, .out_channels = config.width_list.front()}),
      stages(bind_encoder_stages(weights["stages"], config)),
      project_out(weights["project_out"]["main"]["op_list"][0]["conv"],
                  {.in_channels = config.width_list.back(), .out_channels = config.latent_channels}) {}

at::Tensor DCAEEncoder::operator()(const at::Tensor& frames) const {
  at::Tensor x = project_in(frames);
  for (const DCAEStage<Downsample>& stage : stages) {
    x = run_blocks(stage.blocks, std::move(x));
    if (stage.resample) x = (*stage.resample)(x);
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
    if (stage->resample) x = (*stage->resample)(x);
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

at::Tensor DCAE::encode(const at::Tensor& frames, const std::optional<at::Generator>& /*generator*/,
                        const TileProgress& progress) const {
  TORCH_CHECK(encoder, "DC-AE was bound without its encoder");
  TORCH_CHECK((frames.size(2) == 1 || frames.size(2) % config.temporal_compression() == 0) &&
                  frames.size(3) % spatial_compression() == 0 && frames.size(4) % spatial_compression() == 0,
              "DC-AE encodes 1 or 4k frames with edges that are multiples of 32, found ", frames.sizes());
  return apply_tiled(
      frames.to(computes_in), make_tiling(config, /*encoding=*/true),
      [&](const at::Tensor& x) { return (*encoder)(x).to(dtype); }, progress);
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
