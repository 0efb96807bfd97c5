#include "autoencoder/causal_blocks.h"

#include "nn/activation.h"
#include "nn/attention.h"
#include "nn/conv.h"

namespace opensora::autoencoder {
namespace {

constexpr double kNormEps = 1e-6;

std::vector<ResnetBlock> bind_resnets(const Weights& weights, const LevelOptions& o) {
  std::vector<ResnetBlock> resnets;
  for (int64_t i = 0; i < o.layers; ++i) {
    resnets.emplace_back(weights[i], i == 0 ? o.in_channels : o.out_channels, o.out_channels, o.groups);
  }
  return resnets;
}

}  // namespace

CausalConv3d::CausalConv3d(const Weights& weights, int64_t in_channels, int64_t out_channels, int64_t k, Stride stride)
    : weight(weights["conv"].tensor("weight", {out_channels, in_channels, k, k, k})),
      bias(weights["conv"].tensor("bias", {out_channels})),
      stride(stride) {}

at::Tensor CausalConv3d::operator()(const at::Tensor& x) const {
  const at::ScalarType dtype = x.scalar_type();
  const int64_t k = weight.size(2), side = k / 2;
  const at::Tensor padded = k == 1 ? x : at::replication_pad3d(x, {side, side, side, side, k - 1, 0});
  return at::conv3d(padded, weight.to(dtype), bias.to(dtype), stride);
}

ResnetBlock::ResnetBlock(const Weights& weights, int64_t in_channels, int64_t out_channels, int64_t groups)
    : norm1(weights["norm1"], in_channels, groups, kNormEps),
      norm2(weights["norm2"], out_channels, groups, kNormEps),
      conv1(weights["conv1"], in_channels, out_channels),
      conv2(weights["conv2"], out_channels, out_channels) {
  if (in_channels != out_channels) conv_shortcut.emplace(weights["conv_shortcut"], in_channels, out_channels, 1);
}

at::Tensor ResnetBlock::operator()(const at::Tensor& x) const {
  at::Tensor h = conv1(nn::silu_in_place(norm1(x)));
  h = conv2(nn::silu_in_place(norm2(h)));
  return h.add_(conv_shortcut ? (*conv_shortcut)(x) : x);
}

FrameCausalAttention::FrameCausalAttention(const Weights& weights, int64_t channels, int64_t groups)
    : group_norm(weights["group_norm"], channels, groups, kNormEps),
      to_q(weights["to_q"], channels, channels),
      to_k(weights["to_k"], channels, channels),
      to_v(weights["to_v"], channels, channels),
      to_out(weights["to_out"][0], channels, channels) {}

at::Tensor FrameCausalAttention::operator()(const at::Tensor& x) const {
  const int64_t frames = x.size(2), area = x.size(3) * x.size(4);
  const at::Tensor tokens = group_norm(x).flatten(2).transpose(1, 2).unsqueeze(1);  // [B, 1, T*H*W, C]
  const at::Tensor q = to_q(tokens), k = to_k(tokens), v = to_v(tokens);
  // Frame by frame against the keys up to it: no mask of (T*H*W)^2, and half the work.
  std::vector<at::Tensor> attended;
  for (int64_t t = 0; t < frames; ++t) {
    attended.push_back(
        nn::attention(q.narrow(2, t * area, area), k.narrow(2, 0, (t + 1) * area), v.narrow(2, 0, (t + 1) * area)));
  }
  return x + to_out(at::cat(attended, 2)).squeeze(1).transpose(1, 2).reshape(x.sizes());
}

MidBlock::MidBlock(const Weights& weights, int64_t channels, int64_t groups)
    : before(weights["resnets"][0], channels, channels, groups),
      attention(weights["attentions"][0], channels, groups),
      after(weights["resnets"][1], channels, channels, groups) {}

at::Tensor MidBlock::operator()(const at::Tensor& x) const { return after(attention(before(x))); }

CausalUpsample::CausalUpsample(const Weights& weights, int64_t channels, bool space, bool time)
    : space(space), time(time), conv(weights["conv"], channels, channels) {}

at::Tensor CausalUpsample::operator()(const at::Tensor& x) const {
  const int64_t factor = space ? 2 : 1;
  if (!time || x.size(2) == 1) return conv(nn::upsample_nearest(x, {1, factor, factor}));
  return conv(at::cat({nn::upsample_nearest(x.slice(2, 0, 1), {1, factor, factor}),
                       nn::upsample_nearest(x.slice(2, 1), {2, factor, factor})},
                      2));
}

DownBlock::DownBlock(const Weights& weights, const LevelOptions& o) : resnets(bind_resnets(weights["resnets"], o)) {
  if (!o.resample_space && !o.resample_time) return;
  const int64_t space = o.resample_space ? 2 : 1, time = o.resample_time ? 2 : 1;
  downsampler.emplace(weights["downsamplers"][0]["conv"], o.out_channels, o.out_channels, 3,
                      CausalConv3d::Stride{time, space, space});
}

at::Tensor DownBlock::operator()(at::Tensor x) const {
  for (const ResnetBlock& resnet : resnets) x = resnet(x);
  return downsampler ? (*downsampler)(x) : x;
}

UpBlock::UpBlock(const Weights& weights, const LevelOptions& o) : resnets(bind_resnets(weights["resnets"], o)) {
  if (!o.resample_space && !o.resample_time) return;
  upsampler.emplace(weights["upsamplers"][0], o.out_channels, o.resample_space, o.resample_time);
}

at::Tensor UpBlock::operator()(at::Tensor x) const {
  for (const ResnetBlock& resnet : resnets) x = resnet(x);
  return upsampler ? (*upsampler)(x) : x;
}

}  // namespace opensora::autoencoder
