#include "autoencoder/autoencoder.h"

#include "autoencoder/autoencoder_2d.h"
#include "autoencoder/dc_ae.h"
#include "autoencoder/hunyuan_vae.h"
#include "autoencoder/taehv.h"

namespace opensora::autoencoder {
namespace {

// Repeats the last slice along `dim` until it has `length`.
at::Tensor repeat_last(const at::Tensor& x, int64_t dim, int64_t length) {
  const int64_t missing = length - x.size(dim);
  if (missing == 0) return x;
  std::vector<int64_t> repeats = x.sizes().vec();
  repeats[dim] = missing;
  return at::cat({x, x.narrow(dim, x.size(dim) - 1, 1).expand(repeats)}, dim);
}

}  // namespace

at::Tensor Autoencoder::decode(const at::Tensor& latent, const TileProgress& progress) const {
  return join_pieces([&](const PieceSink& sink) { decode_pieces(latent, sink, progress); });
}

at::Tensor pad_frames(const Autoencoder& autoencoder, const at::Tensor& frames) {
  const int64_t s = autoencoder.spatial_compression();
  const auto round_up = [s](int64_t pixels) { return (pixels + s - 1) / s * s; };
  at::Tensor padded = repeat_last(frames, 2, autoencoder.decoded_frames(autoencoder.latent_frames(frames.size(2))));
  padded = repeat_last(padded, 3, round_up(frames.size(3)));
  return repeat_last(padded, 4, round_up(frames.size(4)));
}

at::Tensor latent_of_moments(const at::Tensor& moments, const std::optional<at::Generator>& generator) {
  const std::vector<at::Tensor> halves = moments.chunk(2, 1);
  if (!generator) return halves[0];
  const at::Tensor std = at::exp(0.5 * halves[1].clamp(-30.0, 20.0));
  const at::Tensor noise = at::randn(std.sizes(), *generator, at::TensorOptions().dtype(at::kFloat));
  return halves[0] + std * noise.to(std.options());
}

std::unique_ptr<Autoencoder> make_autoencoder(const Weights& weights, const AutoencoderConfig& config, Half half) {
  if (const auto* hunyuan = std::get_if<HunyuanVAEConfig>(&config)) {
    const bool may_be_tiny = hunyuan->latent_channels == kTaehvLatentChannels;
    if (may_be_tiny && Taehv::is_in(weights)) return std::make_unique<Taehv>(weights, half);
    return std::make_unique<HunyuanVAE>(weights, *hunyuan, half);
  }
  if (const auto* dc_ae = std::get_if<DCAEConfig>(&config)) return std::make_unique<DCAE>(weights, *dc_ae, half);
  return std::make_unique<Autoencoder2D>(weights, std::get<Autoencoder2DConfig>(config), half);
}

}  // namespace opensora::autoencoder
