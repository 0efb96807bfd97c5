#include "autoencoder/taehv.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/cpu_features.h"
#include "core/meta_device.h"
#include "core/trace.h"
#include "opensora/process.h"

namespace opensora::autoencoder {
namespace {

constexpr int64_t kPictureChannels = 3, kBlocks = 3;
constexpr int64_t kEncoderWidth = 64;
constexpr std::array<int64_t, 4> kDecoderWidths = {256, 128, 64, 64};
constexpr std::array<int64_t, 3> kGrows = {1, 2, 2}, kPools = {2, 2, 1};  // frames that one becomes, or that become one
constexpr int64_t kTemporal = 4;                                          // the product of either
constexpr int64_t kTrimmed = kTemporal - 1;  // frames before the first, which stands alone in its latent frame
// A level's place among the modules of a half: they are numbered, those without weights too.
constexpr int64_t kUpLevelModules = 6, kDownLevelModules = 5;

nn::Conv conv3(const Weights& weights, int64_t in_channels, int64_t out_channels, bool bias = true,
               const std::vector<int64_t>& stride = {}) {
  return {weights, 2, {.in_channels = in_channels, .out_channels = out_channels, .stride = stride, .bias = bias}};
}

nn::Conv mix_frames(const Weights& weights, int64_t in_channels, int64_t out_channels) {
  return {weights, 2, {.in_channels = in_channels, .out_channels = out_channels, .kernel_size = 1, .bias = false}};
}

std::vector<MemBlock> bind_mem_blocks(const Weights& weights, int64_t first, int64_t channels) {
  std::vector<MemBlock> blocks;
  for (int64_t i = first; i < first + kBlocks; ++i) blocks.emplace_back(weights[i], channels);
  return blocks;
}

std::vector<TaehvUpLevel> bind_up_levels(const Weights& weights) {
  std::vector<TaehvUpLevel> levels;
  for (size_t i = 0; i < kGrows.size(); ++i) {
    const int64_t first = 3 + kUpLevelModules * static_cast<int64_t>(i);
    levels.emplace_back(weights, first, kDecoderWidths[i], kDecoderWidths[i + 1], kGrows[i]);
  }
  return levels;
}

std::vector<TaehvDownLevel> bind_down_levels(const Weights& weights) {
  std::vector<TaehvDownLevel> levels;
  for (size_t i = 0; i < kPools.size(); ++i) {
    const int64_t first = 2 + kDownLevelModules * static_cast<int64_t>(i);
    levels.emplace_back(weights, first, kEncoderWidth, kPools[i]);
  }
  return levels;
}

at::Tensor run_mem_blocks(const std::vector<MemBlock>& blocks, at::Tensor x, int64_t batch, TaehvMemory& memory) {
  memory.resize(blocks.size());
  for (size_t i = 0; i < blocks.size(); ++i) x = blocks[i](x, batch, memory[i]);
  return x;
}

// [T * B, S * C, H, W] -> [T * S * B, C, H, W]: the frames that lie side by side in the channels, one after another.
at::Tensor unstack_frames(const at::Tensor& x, int64_t batch, int64_t count) {
  if (count == 1) return x;
  return x.view({x.size(0) / batch, batch, count, x.size(1) / count, x.size(2), x.size(3)})
      .transpose(1, 2)
      .reshape({x.size(0) * count, x.size(1) / count, x.size(2), x.size(3)})
      .contiguous(x.suggest_memory_format());
}

// The way back.
at::Tensor stack_frames(const at::Tensor& x, int64_t batch, int64_t count) {
  if (count == 1) return x;
  return x.view({x.size(0) / batch / count, count, batch, x.size(1), x.size(2), x.size(3)})
      .transpose(1, 2)
      .reshape({x.size(0) / count, x.size(1) * count, x.size(2), x.size(3)})
      .contiguous(x.suggest_memory_format());
}

// [B, C, T, H, W] -> [T * B, C, H, W]. A GPU's convolutions want the channels innermost in memory, and leave them so.
at::Tensor as_pictures(const at::Tensor& video) {
  const auto layout = kernel_device(video) == at::kCPU ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
  return video.permute({2, 0, 1, 3, 4}).flatten(0, 1).contiguous(layout);
}

at::Tensor as_video(const at::Tensor& pictures, int64_t batch) {
  return pictures.unflatten(0, {pictures.size(0) / batch, batch}).permute({1, 2, 0, 3, 4});
}

// How many of so many frames, each of `bytes`, make a part.
int64_t frames_in_part(int64_t part_bytes, int64_t bytes, int64_t frames) {
  return std::clamp<int64_t>(part_bytes / bytes, 1, frames);
}

// x in parts of at most `count` frames.
std::vector<at::Tensor> split_frames(const at::Tensor& x, int64_t batch, int64_t count) {
  return x.split(count * batch);
}

int64_t bytes_of_frame(const at::Tensor& x, int64_t batch) {
  return static_cast<int64_t>(x.nbytes()) / (x.size(0) / batch);
}

// A video on its way through the decoder: each level hands what it makes to the next in parts, so that there is one of
// each level at a time.
class Decoding {
 public:
  Decoding(const TaehvDecoder& decoder, int64_t batch, const std::function<void(const at::Tensor& frames)>& sink)
      : decoder_(decoder), batch_(batch), sink_(sink), memories_(decoder.levels.size()) {}

  // The next frames of a level.
  void take(size_t level, at::Tensor x) {
    throw_if_stopped();
    if (level == decoder_.levels.size()) return sink_(decoder_.conv_out(x.relu_()));
    at::Tensor grown = decoder_.levels[level].remember(std::move(x), batch_, memories_[level]);
    if (level + 1 == decoder_.levels.size()) grown = trimmed(grown);
    if (grown.size(0) == 0) return;
    constexpr int64_t kEnlarged = 4;  // by twice the height and width
    const int64_t bytes = bytes_of_frame(grown, batch_) * kEnlarged;
    const int64_t frames = frames_in_part(decoder_.part_bytes, bytes, grown.size(0) / batch_);
    for (const at::Tensor& part : split_frames(grown, batch_, frames)) {
      take(level + 1, decoder_.levels[level].enlarge(part));
    }
  }

 private:
  // Nothing looks back behind the last blocks: what is not wanted need not be enlarged.
  at::Tensor trimmed(const at::Tensor& x) {
    const int64_t frames = x.size(0) / batch_, drop = std::clamp<int64_t>(kTrimmed - made_, 0, frames);
    made_ += frames;
    return x.slice(0, drop * batch_);
  }

  const TaehvDecoder& decoder_;
  int64_t batch_;
  const std::function<void(const at::Tensor& frames)>& sink_;
  std::vector<TaehvMemory> memories_;  // of each level
  int64_t made_ = 0;                   // frames, with those before the first
};

}  // namespace

MemBlock::MemBlock(const Weights& weights, int64_t channels)
    : conv0(conv3(weights["conv"][0], 2 * channels, channels)),
      conv2(conv3(weights["conv"][2], channels, channels)),
      conv4(conv3(weights["conv"][4], channels, channels)) {}

at::Tensor MemBlock::operator()(const at::Tensor& x, int64_t batch, at::Tensor& memory) const {
  const TraceSpan span("MemBlock");
  const int64_t rest = x.size(0) - batch;
  const at::Tensor before = memory.defined() ? memory : at::zeros_like(x.narrow(0, 0, batch));
  at::Tensor h = at::cat({x, at::cat({before, x.narrow(0, 0, rest)})}, 1);
  memory = x.narrow(0, rest, batch).clone();
  h = conv0(h).relu_();
  h = conv2(h).relu_();
  return conv4(h).add_(x).relu_();
}

TaehvUpLevel::TaehvUpLevel(const Weights& decoder, int64_t first, int64_t in_channels, int64_t out_channels,
                           int64_t frames)
    : blocks(bind_mem_blocks(decoder, first, in_channels)),
      frames(frames),
      grow(mix_frames(decoder[first + 4]["conv"], in_channels, in_channels * frames)),
      conv(conv3(decoder[first + 5], in_channels, out_channels, /*bias=*/false)) {}

// The original enlarges frames before it grows them in time, which is the same for each pixel and four times the work.
at::Tensor TaehvUpLevel::remember(at::Tensor x, int64_t batch, TaehvMemory& memory) const {
  return unstack_frames(grow(run_mem_blocks(blocks, std::move(x), batch, memory)), batch, frames);
}

at::Tensor TaehvUpLevel::enlarge(const at::Tensor& x) const {
  return conv(at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)}));
}

TaehvDownLevel::TaehvDownLevel(const Weights& encoder, int64_t first, int64_t channels, int64_t frames)
    : frames(frames),
      pool(mix_frames(encoder[first]["conv"], channels * frames, channels)),
      conv(conv3(encoder[first + 1], channels, channels, /*bias=*/false, {2, 2})),
      blocks(bind_mem_blocks(encoder, first + 2, channels)) {}

at::Tensor TaehvDownLevel::reduce(const at::Tensor& x, int64_t batch) const {
  return conv(pool(stack_frames(x, batch, frames)));
}

at::Tensor TaehvDownLevel::remember(at::Tensor x, int64_t batch, TaehvMemory& memory) const {
  return run_mem_blocks(blocks, std::move(x), batch, memory);
}

TaehvDecoder::TaehvDecoder(const Weights& weights)
    : conv_in(conv3(weights[1], kTaehvLatentChannels, kDecoderWidths.front())),
      levels(bind_up_levels(weights)),
      conv_out(conv3(weights[22], kDecoderWidths.back(), kPictureChannels)) {}

void TaehvDecoder::run(const at::Tensor& latent, const std::function<void(const at::Tensor& frames)>& sink,
                       const TileProgress& progress) const {
  const int64_t batch = latent.size(0), frames = latent.size(2);
  const int64_t bytes = static_cast<int64_t>(latent.nbytes()) / frames / kTaehvLatentChannels * kDecoderWidths.front();
  const int64_t step = frames_in_part(part_bytes, bytes, frames), parts = (frames + step - 1) / step;
  Decoding decoding(*this, batch, sink);
  for (int64_t i = 0; i < parts; ++i) {
    const at::Tensor part = as_pictures(latent.slice(2, i * step, (i + 1) * step));
    decoding.take(0, conv_in((part / 3).tanh_().mul_(3)).relu_());
    if (progress) progress(i + 1, parts);
  }
}

TaehvEncoder::TaehvEncoder(const Weights& weights)
    : conv_in(conv3(weights[0], kPictureChannels, kEncoderWidth)),
      levels(bind_down_levels(weights)),
      conv_out(conv3(weights[17], kEncoderWidth, kTaehvLatentChannels)) {}

// Up to the first level's blocks, which have an eighth of what is there before them.
at::Tensor TaehvEncoder::enter(const at::Tensor& frames, int64_t batch) const {
  std::vector<at::Tensor> reduced;
  for (const at::Tensor& part : split_frames(frames, batch, levels.front().frames)) {
    reduced.push_back(levels.front().reduce(conv_in(part).relu_(), batch));
  }
  return at::cat(reduced);
}

at::Tensor TaehvEncoder::run(const at::Tensor& frames, int64_t batch, const TileProgress& progress) const {
  const int64_t reduced = bytes_of_frame(frames, batch) / kPictureChannels * kEncoderWidth / 4;  // in height and width
  const int64_t step = std::max(frames_in_part(part_bytes, reduced, frames.size(0) / batch) / kTemporal, int64_t{1});
  const std::vector<at::Tensor> parts = split_frames(frames, batch, step * kTemporal);
  std::vector<TaehvMemory> memories(levels.size());
  std::vector<at::Tensor> latents;
  for (const at::Tensor& part : parts) {
    throw_if_stopped();
    at::Tensor x = enter(part, batch);
    for (size_t i = 0; i < levels.size(); ++i) {
      if (i > 0) x = levels[i].reduce(x, batch);
      x = levels[i].remember(std::move(x), batch, memories[i]);
    }
    latents.push_back(conv_out(x));
    if (progress) progress(static_cast<int64_t>(latents.size()), static_cast<int64_t>(parts.size()));
  }
  return at::cat(latents);
}

Taehv::Taehv(const Weights& weights, Half half)
    : dtype(weights.dtype()), computes_in(computing_dtype(dtype, Work::kConvolution, weights.kernel_device())) {
  if (half != Half::kDecoder) encoder.emplace(weights["encoder"]);
  if (half != Half::kEncoder) decoder.emplace(weights["decoder"]);
  if (encoder) weights["encoder"].finish();
  if (decoder) weights["decoder"].finish();
}

bool Taehv::is_in(const Weights& weights) {
  const Weights decoder = weights["decoder"], encoder = weights["encoder"];
  if (decoder.has("conv_in.conv.weight") || encoder.has("conv_in.conv.weight")) return false;
  return decoder.has("3.conv.0.weight") || encoder.has("4.conv.0.weight");
}

at::Tensor Taehv::encode(const at::Tensor& frames, const std::optional<at::Generator>& /*generator*/,
                         const TileProgress& progress) const {
  TORCH_CHECK(encoder, "TAEHV was bound without its encoder");
  TORCH_CHECK(frames.size(2) % kTemporal == 1 && frames.size(3) % 8 == 0 && frames.size(4) % 8 == 0,
              "TAEHV encodes 4k+1 frames with edges that are multiples of 8, found ", frames.sizes());
  // The last frame is repeated: latent frames stand for four each, here for the first as well.
  std::vector<at::Tensor> padded(kTemporal, frames.slice(2, -1));
  padded.front() = frames;
  const at::Tensor pictures = as_pictures((at::cat(padded, 2).to(computes_in) + 1) / 2);
  return as_video(encoder->run(pictures, frames.size(0), progress), frames.size(0)).to(dtype).contiguous();
}

void Taehv::decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress) const {
  TORCH_CHECK(decoder, "TAEHV was bound without its decoder");
  const int64_t batch = latent.size(0), frames = decoded_frames(latent.size(2));
  const std::array<int64_t, 3> size = {frames, latent.size(3) * 8, latent.size(4) * 8};
  int64_t done = 0;
  decoder->run(
      latent.to(computes_in),
      [&](const at::Tensor& pictures) {
        const at::Tensor part = as_video(pictures.clamp(0, 1).mul_(2).sub_(1).to(dtype), batch);
        sink({part, done, 0, 0, size});
        done += part.size(2);
      },
      progress);
}

}  // namespace opensora::autoencoder
