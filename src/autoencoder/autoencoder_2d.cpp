#include "autoencoder/autoencoder_2d.h"

#include <functional>

#include "core/cpu_features.h"
#include "nn/attention.h"
#include "nn/norm.h"
#include "opensora/process.h"

namespace opensora::autoencoder {
namespace {

constexpr int64_t kNormGroups = 32;
constexpr double kGroupNormEps = 1e-6;

nn::GroupNorm group_norm(const Weights& weights, int64_t channels) {
  return {weights, channels, kNormGroups, kGroupNormEps};
}

nn::Conv conv2d(const Weights& weights, int64_t in_channels, int64_t out_channels, int64_t kernel_size = 3) {
  return {weights, 2, {.in_channels = in_channels, .out_channels = out_channels, .kernel_size = kernel_size}};
}

// Unpadded: Downsample pads at the right and bottom only.
nn::Conv downsample_conv(const Weights& weights, int64_t channels) {
  return {weights, 2, {.in_channels = channels, .out_channels = channels, .stride = {2, 2}, .pad = false}};
}

int64_t level_width(const Autoencoder2DConfig& config, int64_t level) { return config.ch * config.ch_mult[level]; }
int64_t level_count(const Autoencoder2DConfig& config) { return static_cast<int64_t>(config.ch_mult.size()); }
int64_t deepest_width(const Autoencoder2DConfig& config) { return config.ch * config.ch_mult.back(); }

Level2D bind_level(const Weights& weights, int64_t in_channels, int64_t out_channels, int64_t blocks) {
  Level2D level;
  for (int64_t i = 0; i < blocks; ++i) {
    level.block.emplace_back(weights["block"][i], i == 0 ? in_channels : out_channels, out_channels);
  }
  return level;
}

std::vector<Level2D> bind_down(const Weights& weights, const Autoencoder2DConfig& config) {
  std::vector<Level2D> down;
  int64_t in_channels = config.ch;
  for (int64_t i = 0; i < level_count(config); ++i) {
    const int64_t width = level_width(config, i);
    down.push_back(bind_level(weights[i], in_channels, width, config.num_res_blocks));
    if (i < level_count(config) - 1) {
      down.back().resample.emplace(downsample_conv(weights[i]["downsample"]["conv"], width));
    }
    in_channels = width;
  }
  return down;
}

std::vector<Level2D> bind_up(const Weights& weights, const Autoencoder2DConfig& config) {
  std::vector<Level2D> up;
  for (int64_t i = 0; i < level_count(config); ++i) {
    const int64_t deeper = std::min(i + 1, level_count(config) - 1);
    const int64_t width = level_width(config, i);
    up.push_back(bind_level(weights[i], level_width(config, deeper), width, config.num_res_blocks + 1));
    if (i > 0) up.back().resample.emplace(conv2d(weights[i]["upsample"]["conv"], width, width));
  }
  return up;
}

// Applies `fn` to each frame of [B, C, T, H, W], or to an image [B, C, H, W]. One by one: frames do not meet, and
// memory stays that of one.
at::Tensor for_each_frame(const at::Tensor& x, const std::function<at::Tensor(const at::Tensor&)>& fn,
                          const TileProgress& progress) {
  const int64_t frames = x.dim() == 5 ? x.size(2) : 1;
  std::vector<at::Tensor> out;
  for (int64_t t = 0; t < frames; ++t) {
    out.push_back(fn(x.dim() == 5 ? x.select(2, t) : x));
    if (progress) progress(t + 1, frames);
  }
  return x.dim() == 5 ? at::stack(out, 2) : out.front();
}

}  // namespace

ResnetBlock2D::ResnetBlock2D(const Weights& weights, int64_t in_channels, int64_t out_channels)
    : norm1(group_norm(weights["norm1"], in_channels)),
      conv1(conv2d(weights["conv1"], in_channels, out_channels)),
      norm2(group_norm(weights["norm2"], out_channels)),
      conv2(conv2d(weights["conv2"], out_channels, out_channels)) {
  if (in_channels != out_channels) {
    nin_shortcut.emplace(conv2d(weights["nin_shortcut"], in_channels, out_channels, 1));
  }
}

at::Tensor ResnetBlock2D::operator()(const at::Tensor& x) const {
  throw_if_stopped();
  at::Tensor h = conv1(nn::silu_in_place(norm1(x)));
  h = conv2(nn::silu_in_place(norm2(h)));
  return h.add_(nin_shortcut ? (*nin_shortcut)(x) : x);
}

AttnBlock2D::AttnBlock2D(const Weights& weights, int64_t channels)
    : norm(group_norm(weights["norm"], channels)),
      q(conv2d(weights["q"], channels, channels, 1)),
      k(conv2d(weights["k"], channels, channels, 1)),
      v(conv2d(weights["v"], channels, channels, 1)),
      proj_out(conv2d(weights["proj_out"], channels, channels, 1)) {}

at::Tensor AttnBlock2D::operator()(const at::Tensor& x) const {
  throw_if_stopped();
  const at::Tensor h = norm(x);
  const auto tokens = [](const at::Tensor& y) {
    return y.flatten(2).transpose(1, 2).unsqueeze(1).contiguous();  // [B, C, H, W] -> [B, 1, H*W, C]
  };
  const at::Tensor attended = nn::attention(tokens(q(h)), tokens(k(h)), tokens(v(h)));
  return proj_out(attended.squeeze(1).transpose(1, 2).reshape(x.sizes())).add_(x);
}

MidBlock2D::MidBlock2D(const Weights& weights, int64_t channels)
    : block_1(weights["block_1"], channels, channels),
      attn_1(weights["attn_1"], channels),
      block_2(weights["block_2"], channels, channels) {}

at::Tensor MidBlock2D::operator()(const at::Tensor& x) const { return block_2(attn_1(block_1(x))); }

Encoder2D::Encoder2D(const Weights& weights, const Autoencoder2DConfig& config)
    : conv_in(conv2d(weights["conv_in"], config.in_channels, config.ch)),
      down(bind_down(weights["down"], config)),
      mid(weights["mid"], deepest_width(config)),
      norm_out(group_norm(weights["norm_out"], deepest_width(config))),
      conv_out(conv2d(weights["conv_out"], deepest_width(config), 2 * config.z_channels)) {}

at::Tensor Encoder2D::operator()(const at::Tensor& image) const {
  at::Tensor x = conv_in(image);
  for (const Level2D& level : down) {
    for (const ResnetBlock2D& block : level.block) x = block(x);
    if (level.resample) x = (*level.resample)(at::constant_pad_nd(x, {0, 1, 0, 1}));
  }
  return conv_out(nn::silu_in_place(norm_out(mid(x))));
}

Decoder2D::Decoder2D(const Weights& weights, const Autoencoder2DConfig& config)
    : conv_in(conv2d(weights["conv_in"], config.z_channels, deepest_width(config))),
      mid(weights["mid"], deepest_width(config)),
      up(bind_up(weights["up"], config)),
      norm_out(group_norm(weights["norm_out"], level_width(config, 0))),
      conv_out(conv2d(weights["conv_out"], level_width(config, 0), config.out_ch)) {}

at::Tensor Decoder2D::operator()(const at::Tensor& z) const {
  at::Tensor x = mid(conv_in(z));
  for (auto level = up.rbegin(); level != up.rend(); ++level) {
    for (const ResnetBlock2D& block : level->block) x = block(x);
    if (level->resample) x = (*level->resample)(nn::upsample_nearest(x, {2, 2}));
  }
  return conv_out(nn::silu_in_place(norm_out(x)));
}

Autoencoder2D::Autoencoder2D(const Weights& weights, const Autoencoder2DConfig& config, Half half)
    : config(config),
      dtype(weights.dtype()),
      computes_in(computing_dtype(dtype, Work::kConvolution, weights.kernel_device())) {
  if (half != Half::kDecoder) encoder.emplace(weights["encoder"], config);
  if (half != Half::kEncoder) decoder.emplace(weights["decoder"], config);
  if (encoder) weights["encoder"].finish();
  if (decoder) weights["decoder"].finish();
}

at::Tensor Autoencoder2D::encode(const at::Tensor& frames, const std::optional<at::Generator>& generator,
                                 const TileProgress& progress) const {
  TORCH_CHECK(encoder, "the image autoencoder was bound without its encoder");
  TORCH_CHECK(frames.size(-2) % spatial_compression() == 0 && frames.size(-1) % spatial_compression() == 0,
              "the image autoencoder encodes edges that are multiples of ", spatial_compression(), ", found ",
              frames.sizes());
  const at::Tensor moments = for_each_frame(frames.to(computes_in), std::cref(*encoder), progress).to(dtype);
  return (latent_of_moments(moments, generator) - config.shift_factor) * config.scale_factor;
}

at::Tensor Autoencoder2D::decode(const at::Tensor& latent, const TileProgress& progress) const {
  if (latent.dim() == 4) return decode(latent.unsqueeze(2), progress).squeeze(2);
  return Autoencoder::decode(latent, progress);
}

void Autoencoder2D::decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress) const {
  TORCH_CHECK(decoder, "the image autoencoder was bound without its decoder");
  const int64_t frames = latent.size(2);
  for (int64_t t = 0; t < frames; ++t) {
    const at::Tensor z = (latent.select(2, t) / config.scale_factor + config.shift_factor).to(computes_in);
    const at::Tensor frame = (*decoder)(z).to(dtype).unsqueeze(2);
    if (progress) progress(t + 1, frames);
    sink({frame, t, 0, 0, {frames, frame.size(3), frame.size(4)}});
  }
}

}  // namespace opensora::autoencoder
