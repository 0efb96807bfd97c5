#include "pipeline/video.h"

#include <spdlog/spdlog.h>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/threads.h"
#include "nn/attention.h"
#include "pipeline/metadata.h"

namespace opensora::pipeline {
namespace {

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
  return result;
}

}  // namespace

Video plan_video(const GenerateRequest& request) {
  Video video;
  video.request = request;
  video.plan = make_plan(request);
  return video;
}

void settle_output(Video& video) {
  plan_output(video.request, video.plan);
  video.request.seed = video.plan.seed;
  video.request.output = video.plan.output;
  video.result = describe(video.request, video.plan);
}

void settle_metadata(Video& video, const CheckpointIdentities& checkpoints) {
  const std::string document = video_metadata(video.request, video.plan, checkpoints).dump();
  video.latent_metadata["opensora"] = document;
  if (video.request.metadata || video.request.sidecar) video.plan.metadata = document;
}

void prepare_machine(const GenerateRequest& request) {
  use_threads(request.threads);
  nn::prefer_fast_attention();
}

void begin_video(Video& video) {
  const Plan& plan = video.plan;
  GenerateResult& result = video.result;
  const Config& config = video.request.config;
  result.attention = nn::attention_backend(plan.device, plan.dtype, plan.image_tokens() + config.t5.max_length,
                                           config.model.head_dim());
  spdlog::info("{}{}: {}x{}, {} frames, {} steps, seed {}, {} {}, {} tokens, attention: {}", video.label,
               sampling::condition_name(plan.condition), result.width, result.height, result.frames, result.steps,
               result.seed, result.device, computing_text(plan.dtype, plan.device), plan.image_tokens(),
               result.attention);
}

}  // namespace opensora::pipeline
