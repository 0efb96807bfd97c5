#include "autoencoder/hunyuan_vae.h"

#include <algorithm>
#include <utility>

#include "core/cpu_features.h"
#include "core/trace.h"
#include "nn/attention.h"
#include "nn/conv.h"
#include "opensora/process.h"

namespace opensora::autoencoder {
namespace {

constexpr double kNormEps = 1e-6;
constexpr int64_t kHistory = 2;  // frames that a kernel of 3 looks back

// The taps along `dim` of a kernel of 3 on a doubled axis, as kernels of 2 on the axis itself: for even places, whose
// first tap is on the neighbour before, and for odd ones.
std::vector<at::Tensor> add_taps(const at::Tensor& weight, int64_t dim) {
  const at::Tensor a = weight.narrow(dim, 0, 1), b = weight.narrow(dim, 1, 1), c = weight.narrow(dim, 2, 1);
  return {at::cat({a, b + c}, dim), at::cat({a + b, c}, dim)};
}

// [out, in, k, 3, 3] -> [4 * out, in, k, 2, 2], the four phases of doubled rows and columns one after another.
at::Tensor stack_phases(const at::Tensor& weight) {
  std::vector<at::Tensor> phases;
  for (const at::Tensor& row : add_taps(weight, 3)) {
    for (at::Tensor& phase : add_taps(row, 4)) phases.push_back(std::move(phase));
  }
  return at::cat(phases, 0);
}

// [B, 4 * C, T, H + 1, W + 1] -> [B, C, T, 2 * H, 2 * W]: odd phases begin a place later than even ones.
void spread_phases(const at::Tensor& phases, const at::Tensor& out) {
  const int64_t channels = out.size(1), height = out.size(3) / 2, width = out.size(4) / 2;
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t column = 0; column < 2; ++column) {
      const at::Tensor phase = phases.narrow(1, (2 * row + column) * channels, channels);
      out.slice(3, row, {}, 2).slice(4, column, {}, 2).copy_(phase.narrow(3, row, height).narrow(4, column, width));
    }
  }
}

std::vector<ResnetBlock> bind_resnets(const Weights& weights, const LevelOptions& o) {
  std::vector<ResnetBlock> resnets;
  resnets.reserve(static_cast<size_t>(o.layers));
  for (int64_t i = 0; i < o.layers; ++i) {
    resnets.emplace_back(weights[i], i == 0 ? o.in_channels : o.out_channels, o.out_channels, o.groups);
  }
  return resnets;
}

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

CausalConv3d::CausalConv3d(const Weights& weights, int64_t in_channels, int64_t out_channels, int64_t k, Stride stride)
    : weight(weights["conv"].tensor("weight", {out_channels, in_channels, k, k, k})),
      bias(weights["conv"].tensor("bias", {out_channels})),
      stride(stride) {}

void CausalConv3d::run(const at::Tensor& x, const Read& read, const Place& place, bool add) const {
  const nn::PaddedConv conv(weight, bias, x, stride);
  const int64_t frames = (x.size(2) - 1) / stride[0] + 1, step = std::min(frames, nn::frames_at_a_time(x));
  nn::PaddedWindow window(x, step * stride[0], kHistory);
  int64_t taken = 0;  // frames of x
  for (int64_t first = 0; first < frames; first += step) {
    const int64_t count = std::min(step, frames - first), end = (first + count - 1) * stride[0] + 1;
    const at::Tensor padded =
        window.push(end - taken, [&](const at::Tensor& interior) { read(x.narrow(2, taken, end - taken), interior); });
    // With a stride in time, all parts but the first begin with frames that no result starts at.
    conv(first == 0 ? padded : padded.slice(2, stride[0] - 1), place(first, count), add);
    taken = end;
  }
}

at::Tensor CausalConv3d::run(const at::Tensor& x, const Read& read) const {
  const int64_t frames = (x.size(2) - 1) / stride[0] + 1;
  at::Tensor out = nn::empty_channels_last(
      x, {x.size(0), weight.size(0), frames, (x.size(3) - 1) / stride[1] + 1, (x.size(4) - 1) / stride[2] + 1});
  run(
      x, read, [&](int64_t first, int64_t count) { return out.narrow(2, first, count); }, /*add=*/false);
  return out;
}

at::Tensor CausalConv3d::mix_channels(const at::Tensor& x) const {
  const at::Tensor tokens = x.permute({0, 2, 3, 4, 1});  // [B, T, H, W, C]
  return at::linear(tokens, weight.flatten(1).to(x.scalar_type()), bias.to(x.scalar_type())).permute({0, 4, 1, 2, 3});
}

at::Tensor CausalConv3d::operator()(const at::Tensor& x) const {
  if (weight.size(2) == 1) return mix_channels(x);
  return run(x, [](const at::Tensor& part, const at::Tensor& frames) { frames.copy_(part); });
}

at::Tensor CausalConv3d::after(const nn::ChannelAffine& norm, const at::Tensor& x) const {
  return run(x, [&](const at::Tensor& part, const at::Tensor& frames) { nn::apply_affine_silu(part, norm, frames); });
}

ResnetBlock::ResnetBlock(const Weights& weights, int64_t in_channels, int64_t out_channels, int64_t groups)
    : norm1(weights["norm1"], in_channels, groups, kNormEps),
      norm2(weights["norm2"], out_channels, groups, kNormEps),
      conv1(weights["conv1"], in_channels, out_channels),
      conv2(weights["conv2"], out_channels, out_channels) {
  if (in_channels != out_channels) conv_shortcut.emplace(weights["conv_shortcut"], in_channels, out_channels, 1);
}

at::Tensor ResnetBlock::operator()(at::Tensor x) const {
  throw_if_stopped();
  const TraceSpan span("ResnetBlock");
  at::Tensor h = conv1.after(norm1.affine(x), x);
  const nn::ChannelAffine norm = norm2.affine(h);
  // The sum is made where its first half lies: in x, or where the width changes in h, part by part after it was read.
  at::Tensor sum = conv_shortcut ? h : x;
  conv2.run(
      h, [&](const at::Tensor& part, const at::Tensor& frames) { nn::apply_affine_silu(part, norm, frames); },
      [&](int64_t first, int64_t count) {
        const at::Tensor part = sum.narrow(2, first, count);
        if (conv_shortcut) part.copy_((*conv_shortcut)(x.narrow(2, first, count)));
        return part;
      },
      /*add=*/true);
  return sum;
}

FrameCausalAttention::FrameCausalAttention(const Weights& weights, int64_t channels, int64_t groups)
    : group_norm(weights["group_norm"], channels, groups, kNormEps),
      to_q(weights["to_q"], channels, channels),
      to_k(weights["to_k"], channels, channels),
      to_v(weights["to_v"], channels, channels),
      to_out(weights["to_out"][0], channels, channels) {}

at::Tensor FrameCausalAttention::operator()(const at::Tensor& x) const {
  throw_if_stopped();
  const TraceSpan span("FrameCausalAttention");
  const int64_t frames = x.size(2), area = x.size(3) * x.size(4);
  at::Tensor h = nn::empty_channels_last(x, x.sizes());
  nn::apply_affine(x, group_norm.affine(x), h);
  const at::Tensor tokens = h.flatten(2).transpose(1, 2).unsqueeze(1);  // [B, 1, T*H*W, C]
  const at::Tensor q = to_q(tokens), k = to_k(tokens), v = to_v(tokens);
  // Frame by frame against the keys up to it: no mask of (T*H*W)^2, and half the work.
  std::vector<at::Tensor> attended;
  attended.reserve(static_cast<size_t>(frames));
  for (int64_t t = 0; t < frames; ++t) {
    attended.push_back(
        nn::attention(q.narrow(2, t * area, area), k.narrow(2, 0, (t + 1) * area), v.narrow(2, 0, (t + 1) * area)));
  }
  return x.add_(to_out(at::cat(attended, 2)).squeeze(1).transpose(1, 2).reshape(x.sizes()));
}

MidBlock::MidBlock(const Weights& weights, int64_t channels, int64_t groups)
    : before(weights["resnets"][0], channels, channels, groups),
      attention(weights["attentions"][0], channels, groups),
      after(weights["resnets"][1], channels, channels, groups) {}

at::Tensor MidBlock::operator()(at::Tensor x) const { return after(attention(before(std::move(x)))); }

CausalUpsample::CausalUpsample(const Weights& weights, int64_t channels, bool space, bool time)
    : space(space), time(time), conv(weights["conv"], channels, channels) {}

at::Tensor CausalUpsample::operator()(const at::Tensor& x) const {
  throw_if_stopped();
  const TraceSpan span("CausalUpsample");
  const int64_t factor = space ? 2 : 1, frames = time ? 2 * x.size(2) - 1 : x.size(2);
  at::Tensor out =
      nn::empty_channels_last(x, {x.size(0), conv.weight.size(0), frames, x.size(3) * factor, x.size(4) * factor});
  // In narrower floats the sums of weights would be rounded once more.
  if (space && x.scalar_type() == at::kFloat) {
    run_phases(x, out);
  } else {
    run_enlarged(x, out);
  }
  return out;
}

// The first frame goes alone, for it stays single in time.
void CausalUpsample::run_enlarged(const at::Tensor& x, const at::Tensor& out) const {
  const int64_t factor = space ? 2 : 1, repeats = time ? 2 : 1;
  const nn::PaddedConv padded_conv(conv.weight, conv.bias, x, conv.stride);
  const int64_t step = std::max<int64_t>(1, nn::frames_at_a_time(out) / repeats);
  nn::PaddedWindow window(out, step * repeats, kHistory);
  int64_t done = 0;
  for (int64_t first = 0, count = 1; first < x.size(2); first += count, count = std::min(step, x.size(2) - first)) {
    const int64_t made = first == 0 ? 1 : count * repeats;
    const at::Tensor padded = window.push(made, [&](const at::Tensor& interior) {
      interior.copy_(nn::upsample_nearest(x.narrow(2, first, count), {made / count, factor, factor}));
    });
    padded_conv(padded, out.narrow(2, done, made));
    done += made;
  }
}

// Neighbours in the enlarged frames are mostly the same pixel, so a kernel's taps on it can be added up beforehand: of
// 27 taps, 12 remain for each of 4 phases (even and odd rows and columns), or 8 where time is doubled too.
void CausalUpsample::run_phases(const at::Tensor& x, const at::Tensor& out) const {
  const int64_t factor = time ? 2 : 1, step = std::max<int64_t>(1, nn::frames_at_a_time(out) / factor);
  const at::Tensor weight = conv.weight.to(at::kFloat), bias = conv.bias.to(at::kFloat).repeat(4);
  std::vector<at::Tensor> kernels = time ? add_taps(weight, 2) : std::vector<at::Tensor>{weight};  // even, odd frames
  for (at::Tensor& kernel : kernels) kernel = stack_phases(kernel);
  nn::PaddedWindow window(x, step, weight.size(2) - factor);
  for (int64_t first = 0; first < x.size(2); first += step) {
    const int64_t count = std::min(step, x.size(2) - first);
    const at::Tensor padded =
        window.push(count, [&](const at::Tensor& frames) { frames.copy_(x.narrow(2, first, count)); });
    for (int64_t odd = 0; odd < factor; ++odd) {
      const int64_t skipped = first < odd ? 1 : 0;  // the first frame stays single
      if (skipped == count) continue;
      const int64_t place = factor * (first + skipped) - odd, end = place + factor * (count - skipped);
      spread_phases(at::conv3d(padded.slice(2, skipped), kernels[odd], bias), out.slice(2, place, end, factor));
    }
  }
}

DownBlock::DownBlock(const Weights& weights, const LevelOptions& o) : resnets(bind_resnets(weights["resnets"], o)) {
  if (!o.resample_space && !o.resample_time) return;
  const int64_t space = o.resample_space ? 2 : 1, time = o.resample_time ? 2 : 1;
  downsampler.emplace(weights["downsamplers"][0]["conv"], o.out_channels, o.out_channels, 3,
                      CausalConv3d::Stride{time, space, space});
}

at::Tensor DownBlock::operator()(at::Tensor x) const {
  for (const ResnetBlock& resnet : resnets) x = resnet(std::move(x));
  return downsampler ? (*downsampler)(x) : x;
}

UpBlock::UpBlock(const Weights& weights, const LevelOptions& o) : resnets(bind_resnets(weights["resnets"], o)) {
  if (!o.resample_space && !o.resample_time) return;
  upsampler.emplace(weights["upsamplers"][0], o.out_channels, o.resample_space, o.resample_time);
}

at::Tensor UpBlock::operator()(at::Tensor x) const {
  for (const ResnetBlock& resnet : resnets) x = resnet(std::move(x));
  return upsampler ? (*upsampler)(x) : x;
}

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

at::Tensor HunyuanVAE::encode(const at::Tensor& frames, const std::optional<at::Generator>& generator,
                              const TileProgress& progress) const {
  const at::Tensor z = latent_of_moments(encode_moments(frames, progress), generator);
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
