#include "run/stage_work.h"

#include "run/frames.h"
#include "sampling/condition.h"
#include "sampling/sampler.h"

namespace opensora::run {
namespace {

at::Tensor starting_noise(const Job& job, const sampling::LatentShape& s) {
  if (!job.device.is_meta()) return sampling::make_noise(s, job.seed, job.rng);
  return at::empty({1, s.channels, s.frames, s.height, s.width}, at::TensorOptions(at::kFloat).device(at::kMeta));
}

}  // namespace

sampling::SamplerInput picture_input(const Job& job, const StageClock& clock) {
  constexpr double kDistilledGuidance = 4.0;  // what the official code asks of FLUX
  return {.noise = starting_noise(job, job.picture_latent),
          .prompt = job.picture_text,
          .negative = {},
          .condition = {},
          .timesteps = sampling::timesteps(job.picture_schedule),
          .guidance = {},
          .solver = job.solver,
          .cache = job.cache,
          .distilled_guidance = kDistilledGuidance,
          .on_step =
              [&](int64_t step, int64_t steps) {
                clock.report({"image", step, steps});
              },
          .timestep_rounding = job.timestep_rounding};
}

at::Tensor decode_picture(const autoencoder::Autoencoder& decoder, const at::Tensor& latent) {
  at::Tensor picture = decoder.decode(latent);
  check_finite_frames(picture, "FLUX's picture");
  return picture;
}

sampling::SamplerInput video_input(const Job& job, const StageClock& clock) {
  return {.noise = starting_noise(job, job.latent_shape),
          .prompt = job.text,
          .negative = job.negative_text,
          .condition = sampling::make_condition(job.condition, job.references, job.latent_shape),
          .timesteps = sampling::timesteps(job.schedule),
          .guidance = guidance_options(job.request.config, job.condition),
          .solver = job.solver,
          .cache = job.cache,
          .distilled_guidance = {},
          .on_step =
              [&](int64_t step, int64_t steps) {
                clock.report({"denoise", step, steps});
              },
          .timestep_rounding = job.timestep_rounding};
}

void decode_frames(const autoencoder::Autoencoder& decoder, const at::Tensor& latent, int64_t count,
                   const StageClock& clock, const std::function<void(const at::Tensor& frames)>& done,
                   const autoencoder::PieceSink& keep) {
  const int64_t pixels = decoder.spatial_compression();
  RgbFrames rgb(count, {latent.size(4) * pixels, latent.size(3) * pixels}, "the decoded video", done);
  decoder.decode_pieces(
      latent,
      [&](const autoencoder::Piece& piece) {
        rgb.add(piece);
        if (keep) keep(piece);
      },
      [&](int64_t tiles, int64_t total) {
        clock.report({"decode", tiles, total});
      });
}

}  // namespace opensora::run
