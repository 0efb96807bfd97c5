#include "pipeline/text_to_image.h"

#include "pipeline/frames.h"

namespace opensora::pipeline {
namespace {

sampling::SamplerResult sample_picture(const Plan& plan, Models& models, const sampling::TextEmbedding& prompt,
                                       const at::Tensor& noise, const StageClock& clock) {
  constexpr double kDistilledGuidance = 4.0;  // what the official code asks of FLUX
  const auto model = models.image_transformer();
  const sampling::SamplerInput input{.noise = noise,
                                     .prompt = prompt,
                                     .negative = {},
                                     .condition = {},
                                     .timesteps = sampling::timesteps(plan.picture_schedule),
                                     .guidance = {},
                                     .distilled_guidance = kDistilledGuidance,
                                     .on_step = [&](int64_t step, int64_t steps) {
                                       clock.report({"image", step, steps});
                                     }};
  return sampling::sample(*model, input, plan.device);
}

}  // namespace

Picture make_picture(const Plan& plan, Models& models, const sampling::TextEmbedding& prompt, const StageClock& clock) {
  Picture picture;
  picture.noise = sampling::make_noise(plan.picture_latent, plan.seed);
  const sampling::SamplerResult sampled = sample_picture(plan, models, prompt, picture.noise, clock);
  picture.latent = sampled.latent;
  picture.forwards = sampled.forwards;
  picture.frame = models.image_autoencoder()->decode(sampled.latent);
  check_finite_frames(picture.frame, "FLUX's picture");
  picture.rgb = to_rgb24(picture.frame, 0);
  return picture;
}

}  // namespace opensora::pipeline
