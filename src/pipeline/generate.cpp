#include "opensora/generate.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include "core/device.h"
#include "io/safetensors_writer.h"
#include "nn/attention.h"
#include "pipeline/frames.h"
#include "pipeline/models.h"
#include "pipeline/plan.h"
#include "pipeline/reference_media.h"
#include "pipeline/references.h"
#include "pipeline/stage.h"
#include "pipeline/text_stage.h"
#include "pipeline/text_to_image.h"
#include "sampling/sampler.h"

namespace opensora {
namespace {

using pipeline::Models;
using pipeline::Picture;
using pipeline::Plan;
using pipeline::StageClock;

struct Prompts {
  sampling::TextEmbedding video, negative, picture;
};

Prompts encode_text(const GenerateRequest& request, const Plan& plan) {
  std::vector<std::string> texts = {plan.prompt, request.negative_prompt};
  if (plan.makes_picture) texts.push_back(request.prompt);
  const std::vector<sampling::TextEmbedding> embeddings =
      pipeline::encode_prompts(texts, request.config,
                               {.model_dir = request.model_dir,
                                .device = plan.device,
                                .dtype = plan.dtype,
                                .t5_weights = request.files.t5xxl,
                                .clip_weights = request.files.clip_l});
  return {embeddings[0], embeddings[1], plan.makes_picture ? embeddings[2] : sampling::TextEmbedding{}};
}

struct Sampled {
  at::Tensor noise, latent;
  std::vector<float> timesteps;
  int64_t forwards = 0;
};

Sampled denoise(const GenerateRequest& request, const Plan& plan, Models& models, const Prompts& prompts,
                const std::vector<at::Tensor>& references, const StageClock& clock) {
  const SamplingConfig& s = request.config.sampling;
  Sampled result{.noise = sampling::make_noise(plan.latent, plan.seed),
                 .latent = {},
                 .timesteps = sampling::timesteps(plan.schedule)};
  const auto model = models.video_transformer();
  const sampling::SamplerInput input{
      .noise = result.noise,
      .prompt = prompts.video,
      .negative = prompts.negative,
      .condition = sampling::make_condition(plan.condition, references, plan.latent),
      .timesteps = result.timesteps,
      .guidance = {.text = s.guidance,
                   .image = s.guidance_img.value_or(1),
                   .text_osci = s.text_osci,
                   .image_osci = s.image_osci,
                   .temporal_osci = s.scale_temporal_osci && sampling::is_image_condition(plan.condition)},
      .distilled_guidance = {},
      .on_step = [&](int64_t step, int64_t steps) {
        clock.report({"denoise", step, steps});
      }};
  const sampling::SamplerResult sampled = sampling::sample(*model, input, plan.device);
  result.latent = sampled.latent;
  result.forwards = sampled.forwards;
  sampling::place_references(plan.condition, references, result.latent);
  return result;
}

at::Tensor decode(const GenerateRequest& request, Models& models, const at::Tensor& latent, const StageClock& clock) {
  const auto autoencoder = models.video_autoencoder(autoencoder::Half::kDecoder);
  const at::Tensor video = autoencoder->decode(latent, [&](int64_t done, int64_t total) {
    clock.report({"decode", done, total});
  });
  pipeline::check_finite_frames(video, "the decoded video");
  return video.slice(2, 0, request.config.sampling.num_frames);
}

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

void save_tensors(const GenerateRequest& request, const NamedTensors& tensors) {
  if (!request.save_tensors.empty()) io::save_safetensors(request.save_tensors, tensors, {}, request.overwrite);
}

GenerateResult describe(const GenerateRequest& request, const Plan& plan) {
  GenerateResult result;
  result.output = plan.output;
  result.image = request.image_only ? plan.output : plan.picture;
  result.seed = plan.seed;
  result.effective_prompt = request.image_only ? request.prompt : plan.prompt;
  result.width = request.image_only ? plan.picture_size.width : plan.size.width;
  result.height = request.image_only ? plan.picture_size.height : plan.size.height;
  result.frames = request.image_only ? 1 : request.config.sampling.num_frames;
  result.steps = plan.schedule.num_steps;
  result.device = plan.device.str();
  result.dtype = dtype_name(plan.dtype);
  result.attention = nn::attention_backend(plan.device, plan.dtype, plan.image_tokens() + request.config.t5.max_length,
                                           request.config.model.head_dim());
  return result;
}

void log_plan(const Plan& plan, const GenerateResult& result) {
  spdlog::info("{}: {}x{}, {} frames, {} steps, seed {}, {} {}, {} tokens, attention: {}",
               sampling::condition_name(plan.condition), result.width, result.height, result.frames, result.steps,
               result.seed, result.device, result.dtype, plan.image_tokens(), result.attention);
}

// The picture as the video's first frame: a reference like any other.
at::Tensor picture_as_reference(const Picture& picture, const Plan& plan) {
  return pipeline::reference_picture(picture.rgb, plan.size.height, plan.size.width);
}

// The run after its plan: each stage loads what it needs and releases it.
void run_stages(const GenerateRequest& request, const Plan& plan, StageClock& clock, GenerateResult& result) {
  Models models(request, plan);
  std::vector<at::Tensor> references = pipeline::read_references(request, plan);
  const Prompts prompts = clock.run("text", [&] { return encode_text(request, plan); });

  NamedTensors saved;
  if (plan.makes_picture) {
    const Picture picture =
        clock.run("image", [&] { return pipeline::make_picture(plan, models, prompts.picture, clock); });
    result.image_forwards = picture.forwards;
    if (request.image_only) {
      save_tensors(request, {{"noise", picture.noise}, {"latent", picture.latent}, {"video", picture.frame}});
      pipeline::write_output(request, plan, picture.frame, clock);
      return;
    }
    saved = {{"image_noise", picture.noise}, {"image_latent", picture.latent}, {"image", picture.rgb}};
    pipeline::write_picture(plan.picture, picture.rgb, request.overwrite);
    references = {picture_as_reference(picture, plan)};
  }
  if (!references.empty()) {
    references =
        clock.run("encode", [&] { return pipeline::encode_references(request, plan, models, references, clock); });
  }
  const Sampled sampled =
      clock.run("denoise", [&] { return denoise(request, plan, models, prompts, references, clock); });
  result.forwards = sampled.forwards;
  const at::Tensor video = clock.run("decode", [&] { return decode(request, models, sampled.latent, clock); });
  clock.run("write", [&] {
    if (!request.save_tensors.empty()) {  // or the float copy of the video would be for nothing
      saved.insert(saved.end(), {{"noise", sampled.noise},
                                 {"latent", sampled.latent},
                                 {"video", video.to(at::kFloat)},
                                 {"timesteps", at::tensor(sampled.timesteps)}});
      save_tensors(request, saved);
    }
    pipeline::write_output(request, plan, video, clock);
  });
}

}  // namespace

GenerateResult generate(const GenerateRequest& request, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  const Plan plan = pipeline::make_plan(request);
  pipeline::check_model_files(request);
  if (request.threads > 0) at::set_num_threads(request.threads);
  nn::prefer_fast_attention();

  GenerateResult result = describe(request, plan);
  log_plan(plan, result);
  StageClock clock(plan.device, progress);
  run_stages(request, plan, clock, result);
  result.seconds = clock.seconds();
  result.peak_resident_bytes = peak_resident_bytes();
  result.peak_device_bytes = peak_device_bytes(plan.device);
  return result;
}

}  // namespace opensora
