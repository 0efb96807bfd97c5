// What the three autoencoders have in common.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <variant>

#include "autoencoder/tiling.h"
#include "core/weights.h"
#include "opensora/config.h"

namespace opensora::autoencoder {

// Whose weights are bound: a run of text-to-video needs no encoder.
enum class Half { kDecoder, kEncoder, kBoth };

// Tensors are on the device of the weights, in any floating dtype; results have the model's dtype. Both directions run
// in tiles where the configuration says so and the input is larger than one.
class Autoencoder {
 public:
  virtual ~Autoencoder() = default;

  // Frames [B, 3, T, H, W] in [-1, 1] -> a scaled latent [B, C, latent_frames(T), H/s, W/s], s the spatial compression.
  // H and W must be multiples of s, and T a length that the model encodes whole (HunyuanVAE 4k+1, DC-AE 1 or 4k):
  // see pad_frames(). Needs the encoder's half. With a generator, of the CPU, the latent is drawn from the posterior,
  // in float32 whatever the model's device and dtype; without one it is the mean. DC-AE has no posterior.
  virtual at::Tensor encode(const at::Tensor& frames, const std::optional<at::Generator>& generator = {},
                            const TileProgress& progress = {}) const = 0;

  // A scaled latent [B, C, t, h, w] -> frames [B, 3, decoded_frames(t), h*s, w*s], nominally in [-1, 1], not clamped.
  // Needs the decoder's half.
  virtual at::Tensor decode(const at::Tensor& latent, const TileProgress& progress = {}) const;

  // The same, handed to `sink` piece by piece as they are finished: no more than a tile is held.
  virtual void decode_pieces(const at::Tensor& latent, const PieceSink& sink,
                             const TileProgress& progress = {}) const = 0;

  virtual int64_t spatial_compression() const = 0;                  // pixels a latent pixel, in height and width
  virtual int64_t decoded_frames(int64_t latent_frames) const = 0;  // frames that a latent decodes to
  virtual int64_t latent_frames(int64_t frames) const = 0;          // the fewest that decode to at least `frames`
};

// `frames` grown to the size that goes through encode() and decode() whole: the last frame is repeated, and the right
// and bottom pixels. What comes out is to be cut to the size of `frames`.
at::Tensor pad_frames(const Autoencoder& autoencoder, const at::Tensor& frames);

// The latent that the encoder's moments [B, 2C, ...] (mean, log-variance) stand for: the mean, or with a generator a
// draw. The log-variance is clamped to [-30, 20].
at::Tensor latent_of_moments(const at::Tensor& moments, const std::optional<at::Generator>& generator);

using AutoencoderConfig = std::variant<HunyuanVAEConfig, DCAEConfig, Autoencoder2DConfig>;

// Binds the weights; throws CheckpointError for what is missing or mis-shaped. In HunyuanVAE's place there may be its
// tiny stand-in, TAEHV, which is told by the names of its tensors.
std::unique_ptr<Autoencoder> make_autoencoder(const Weights& weights, const AutoencoderConfig& config, Half half);

}  // namespace opensora::autoencoder
