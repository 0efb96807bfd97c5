#include "pipeline/text_to_image.h"

#include "pipeline/frames.h"
#include "pipeline/models.h"

namespace opensora::pipeline {
namespace {

sampling::SamplerResult sample_picture(const GenerateRequest& request, const Plan& plan,
                                       const sampling::TextEmbedding& prompt, const at::Tensor& noise,
                                       const StageClock& clock) {
  constexpr double kDistilledGuidance = 4.0;  // what the official code asks of FLUX
  const diffusion::MMDiT model = load_image_transformer(request, plan);
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
  return sampling::sample(model, input, plan.device);
}

}  // namespace

Picture make_picture(const GenerateRequest& request, const Plan& plan, const sampling::TextEmbedding& prompt,
                     const StageClock& clock) {
  Picture picture;
  picture.noise = sampling::make_noise(plan.picture_latent, plan.seed);
  const sampling::SamplerResult sampled = sample_picture(request, plan, prompt, picture.noise, clock);
  picture.latent = sampled.latent;
  picture.forwards = sampled.forwards;
  picture.frame = load_image_autoencoder(request, plan)->decode(sampled.latent);
  check_finite_frames(picture.frame, "FLUX's picture");
  picture.rgb = to_rgb24(picture.frame, 0);
  return picture;
}

}  // namespace opensora::pipeline
