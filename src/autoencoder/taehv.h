// TAEHV: the community's tiny autoencoder for HunyuanVAE's latents, after madebyollin/taehv (4x8x8, 16 channels). It is
// for previews and drafts: a sixtieth of the decoder's work for 256x256 pixels, and not as sharp.
//
// Frames go through it as a batch of pictures, [T * B, C, H, W] with the samples of a frame one after another. Only its
// memory blocks look back, by one frame, so that any number of frames can be taken at a time: parts of a video follow
// each other through the same memories, and what comes out does not depend on where they were cut.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "autoencoder/autoencoder.h"
#include "core/weights.h"
#include "nn/conv.h"

namespace opensora::autoencoder {

// A residual block that also sees the frame before: relu(x + conv(x, frame before)).
struct MemBlock {
  nn::Conv conv0, conv2, conv4;  // "conv.0", "conv.2", "conv.4"; between them a ReLU

  MemBlock(const Weights& weights, int64_t channels);
  // `memory` [B, C, H, W] is the last frame of the part before, undefined before the first, and becomes this part's.
  at::Tensor operator()(const at::Tensor& x, int64_t batch, at::Tensor& memory) const;
};

// Of one level, one for each of its blocks.
using TaehvMemory = std::vector<at::Tensor>;

// A level of the decoder: blocks, each frame becomes `frames` (TGrow), twice the height and width, a convolution.
struct TaehvUpLevel {
  std::vector<MemBlock> blocks;
  int64_t frames;
  nn::Conv grow, conv;

  TaehvUpLevel(const Weights& decoder, int64_t first, int64_t in_channels, int64_t out_channels, int64_t frames);
  at::Tensor remember(at::Tensor x, int64_t batch, TaehvMemory& memory) const;  // through the blocks, and grown in time
  at::Tensor enlarge(const at::Tensor& x) const;                                // and then in space
};

// A level of the encoder: `frames` become one (TPool), a convolution of stride 2, blocks.
struct TaehvDownLevel {
  int64_t frames;
  nn::Conv pool, conv;
  std::vector<MemBlock> blocks;

  TaehvDownLevel(const Weights& encoder, int64_t first, int64_t channels, int64_t frames);
  at::Tensor reduce(const at::Tensor& x, int64_t batch) const;
  at::Tensor remember(at::Tensor x, int64_t batch, TaehvMemory& memory) const;
};

constexpr int64_t kTaehvLatentChannels = 16;
constexpr int64_t kTaehvPartBytes = int64_t{32} << 20;

struct TaehvDecoder {
  int64_t part_bytes = kTaehvPartBytes;  // of what a level takes at a time, at least a frame
  nn::Conv conv_in;
  std::vector<TaehvUpLevel> levels;
  nn::Conv conv_out;

  explicit TaehvDecoder(const Weights& weights);
  // A scaled latent [B, 16, t, h, w] -> frames [n * B, 3, 8h, 8w] in [0, 1], not clamped: the next n of 4t-3 with each
  // call of `sink`. `progress` counts the parts of the latent.
  void run(const at::Tensor& latent, const std::function<void(const at::Tensor& frames)>& sink,
           const TileProgress& progress) const;
};

struct TaehvEncoder {
  int64_t part_bytes = kTaehvPartBytes;  // of what the first level makes at a time, at least four frames' worth
  nn::Conv conv_in;
  std::vector<TaehvDownLevel> levels;
  nn::Conv conv_out;

  explicit TaehvEncoder(const Weights& weights);
  // [4t, 3, 8h, 8w] in [0, 1], of `batch` samples each -> a scaled latent [t, 16, h, w] of as many.
  at::Tensor run(const at::Tensor& frames, int64_t batch, const TileProgress& progress) const;

 private:
  at::Tensor enter(const at::Tensor& frames, int64_t batch) const;
};

// Latents are those that the transformer works on: nothing is scaled. Nothing is tiled either: a video goes through in
// parts of time.
struct Taehv final : Autoencoder {
  at::ScalarType dtype, computes_in;  // of results, and of what comes before them
  std::optional<TaehvEncoder> encoder;
  std::optional<TaehvDecoder> decoder;

  explicit Taehv(const Weights& weights, Half half = Half::kDecoder);

  // Whether these are its weights, and not HunyuanVAE's: by the names of either half.
  static bool is_in(const Weights& weights);

  // There is no posterior: the generator is not used.
  at::Tensor encode(const at::Tensor& frames, const std::optional<at::Generator>& generator = {},
                    const TileProgress& progress = {}) const override;
  // Clamped to [-1, 1].
  void decode_pieces(const at::Tensor& latent, const PieceSink& sink, const TileProgress& progress = {}) const override;
  int64_t spatial_compression() const override { return 8; }
  int64_t decoded_frames(int64_t latent_frames) const override { return (latent_frames - 1) * 4 + 1; }
  int64_t latent_frames(int64_t frames) const override { return (frames + 2) / 4 + 1; }
};

}  // namespace opensora::autoencoder
