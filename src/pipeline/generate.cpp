#include "opensora/generate.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include "autoencoder/hunyuan_vae.h"
#include "core/device.h"
#include "diffusion/mmdit.h"
#include "io/checkpoint.h"
#include "io/model_files.h"
#include "io/safetensors_writer.h"
#include "media/png_writer.h"
#include "media/video_writer.h"
#include "nn/attention.h"
#include "opensora/error.h"
#include "pipeline/plan.h"
#include "pipeline/stage.h"
#include "pipeline/text_stage.h"
#include "sampling/sampler.h"

namespace opensora {
namespace {

using pipeline::Plan;
using pipeline::StageClock;

struct Prompts {
  sampling::TextEmbedding prompt, negative;
};

Prompts encode_text(const GenerateRequest& request, const Plan& plan) {
  const std::vector<sampling::TextEmbedding> embeddings =
      pipeline::encode_prompts({plan.prompt, request.negative_prompt}, request.config,
                               {.model_dir = request.model_dir, .device = plan.device, .dtype = plan.dtype});
  return {embeddings[0], embeddings[1]};
}

sampling::SamplerResult denoise(const GenerateRequest& request, const Plan& plan, const Prompts& prompts,
                                const at::Tensor& noise, const std::vector<float>& timesteps, const StageClock& clock) {
  const Config& config = request.config;
  const auto checkpoint =
      io::Checkpoint::open(io::find_component(request.model_dir, io::Component::kModel, config.model.from_pretrained));
  const diffusion::MMDiT model(Weights(checkpoint, plan.device, plan.dtype), config.model);
  const sampling::SamplerInput input{
      .noise = noise,
      .prompt = prompts.prompt,
      .negative = prompts.negative,
      .timesteps = timesteps,
      .guidance = {.text = config.sampling.guidance, .text_osci = config.sampling.text_osci},
      .on_step = [&](int64_t step, int64_t steps) {
        clock.report({"denoise", step, steps});
      }};
  return sampling::sample(model, input, plan.device);
}

at::Tensor decode(const GenerateRequest& request, const Plan& plan, const at::Tensor& latent, const StageClock& clock) {
  const HunyuanVAEConfig& config = request.config.ae;
  const auto checkpoint =
      io::Checkpoint::open(io::find_component(request.model_dir, io::Component::kAe, config.from_pretrained));
  const autoencoder::HunyuanVAE vae(Weights(checkpoint, plan.device, plan.dtype), config);
  const at::Tensor video = vae.decode(latent, [&](int64_t done, int64_t total) {
    clock.report({"decode", done, total});
  });
  if (!at::isfinite(video).all().item<bool>()) {
    throw NumericError("the decoded video is not finite; try --dtype bf16 or fp32, or check " +
                       checkpoint->description());
  }
  return video.slice(2, 0, request.config.sampling.num_frames);
}

// Frame `t` of [1, 3, T, H, W] in [-1, 1] -> uint8 [H, W, 3] on the CPU.
at::Tensor to_rgb24(const at::Tensor& video, int64_t t) {
  const at::Tensor frame = video[0].select(1, t).to(at::kFloat).clamp(-1, 1);
  return ((frame + 1) * 127.5).round().to(at::kByte).permute({1, 2, 0}).contiguous().cpu();
}

void write_output(const GenerateRequest& request, const Plan& plan, const at::Tensor& video, const StageClock& clock) {
  const int width = static_cast<int>(video.size(4)), height = static_cast<int>(video.size(3));
  const PixelSize scaled = request.output_size.value_or(PixelSize{});
  const int out_width = static_cast<int>(scaled.width), out_height = static_cast<int>(scaled.height);
  const int64_t frames = video.size(2);
  if (frames == 1) {
    media::write_png(plan.output, to_rgb24(video, 0).const_data_ptr<uint8_t>(), width, height, request.overwrite,
                     out_width, out_height);
    return;
  }
  media::VideoWriter writer(plan.output,
                            {.width = width,
                             .height = height,
                             .output_width = out_width,
                             .output_height = out_height,
                             .fps = static_cast<int>(request.config.fps_save),
                             .crf = request.crf,
                             .threads = request.threads},
                            request.overwrite);
  for (int64_t t = 0; t < frames; ++t) {
    writer.write(to_rgb24(video, t).const_data_ptr<uint8_t>());
    clock.report({"write", t + 1, frames});
  }
  writer.finish();
}

}  // namespace

GenerateResult generate(const GenerateRequest& request, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  const Plan plan = pipeline::make_plan(request);
  if (request.threads > 0) at::set_num_threads(request.threads);
  nn::prefer_fast_attention();

  GenerateResult result;
  result.attention = nn::attention_backend(plan.device, plan.dtype, plan.image_tokens() + request.config.t5.max_length,
                                           request.config.model.head_dim());
  spdlog::info("{}x{}, {} frames, {} steps, seed {}, {} {}, {} tokens, attention: {}", plan.size.width,
               plan.size.height, request.config.sampling.num_frames, request.config.sampling.num_steps, plan.seed,
               plan.device.str(), dtype_name(plan.dtype), plan.image_tokens(), result.attention);

  StageClock clock(plan.device, progress);
  const Prompts prompts = clock.run("text", [&] { return encode_text(request, plan); });
  const at::Tensor noise = sampling::make_noise(plan.latent, plan.seed);
  const std::vector<float> timesteps = sampling::timesteps(plan.schedule);
  const sampling::SamplerResult sampled =
      clock.run("denoise", [&] { return denoise(request, plan, prompts, noise, timesteps, clock); });
  const at::Tensor video = clock.run("decode", [&] { return decode(request, plan, sampled.latent, clock); });
  clock.run("write", [&] {
    if (!request.save_tensors.empty()) {
      io::save_safetensors(request.save_tensors,
                           {{"noise", noise},
                            {"latent", sampled.latent},
                            {"video", video.to(at::kFloat)},
                            {"timesteps", at::tensor(timesteps)}},
                           {}, request.overwrite);
    }
    write_output(request, plan, video, clock);
    return 0;
  });

  result.output = plan.output;
  result.seed = plan.seed;
  result.effective_prompt = plan.prompt;
  result.width = plan.size.width;
  result.height = plan.size.height;
  result.frames = video.size(2);
  result.steps = plan.schedule.num_steps;
  result.forwards = sampled.forwards;
  result.device = plan.device.str();
  result.dtype = dtype_name(plan.dtype);
  result.seconds = clock.seconds();
  result.peak_resident_bytes = peak_resident_bytes();
  result.peak_device_bytes = peak_device_bytes(plan.device);
  return result;
}

}  // namespace opensora
