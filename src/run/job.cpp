#include "run/job.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/output_file.h"
#include "core/text.h"
#include "core/threads.h"
#include "media/video_writer.h"
#include "nn/attention.h"
#include "nn/attention_choice.h"
#include "opensora/error.h"
#include "opensora/video.h"
#include "run/calibration.h"
#include "run/metadata.h"
#include "run/output_writer.h"
#include "run/remains.h"
#include "text/prompt.h"
#include "text/unicode.h"

namespace opensora {

std::filesystem::path default_output(const std::string& prompt, uint64_t seed, int64_t frames,
                                     const std::string& codec) {
  return prompt_slug(prompt) + "-" + std::to_string(seed) + (frames == 1 ? ".png" : media::default_extension(codec));
}

namespace run {
namespace {

bool wants_fp8(const std::string& attention) {
  if (attention == "exact") return false;
  if (attention == "fp8" || attention == "auto") return true;
  throw UsageError("`attention`: expected exact, fp8 or auto, found \"" + attention + "\"");
}

bool uses_dc_ae(const Config& config) { return std::holds_alternative<DCAEConfig>(config.ae); }

void check_condition(const GenerateRequest& request, sampling::ConditionType type) {
  const auto wanted = static_cast<size_t>(sampling::reference_count(type));
  if (request.references.size() != wanted) {
    throw UsageError(sampling::condition_name(type) + ": expected " + std::to_string(wanted) + " reference(s), found " +
                     std::to_string(request.references.size()));
  }
  if (sampling::is_video_condition(type) && uses_dc_ae(request.config)) {
    throw UsageError(
        sampling::condition_name(type) +
        ": the high-compression autoencoder cannot encode 33 or 65 frames; use a configuration with HunyuanVAE");
  }
}

// DC-AE makes four frames of each latent frame, but one where there is only one.
void check_frames(const Config& config) {
  const int64_t frames = config.sampling.num_frames, reduction = config.sampling.temporal_reduction;
  if (!uses_dc_ae(config)) return sampling::check_num_frames(frames, reduction);
  if (frames == 1 || frames > reduction) return;
  throw UsageError("`num_frames`: the high-compression autoencoder makes 1 frame, or " + std::to_string(reduction + 1) +
                   " and more, found " + std::to_string(frames));
}

void check_numbers(const GenerateRequest& request) {
  const SamplingConfig& s = request.config.sampling;
  const auto within = [](const char* flag, auto value, auto min, auto max) {
    if (value >= min && value <= max) return;
    throw UsageError(fmt::format("{}: expected {} to {}, found {}", flag, min, max, value));
  };
  within("`steps`", s.num_steps, int64_t{1}, kMaxSteps);
  within("`num_frames`", s.num_frames, int64_t{1}, kMaxFrames);
  if (!request.config.fps_save.is_valid()) throw UsageError(std::string("`fps`: expected ") + kFrameRateExpected);
  within("`guidance`", s.guidance, -kMaxGuidance, kMaxGuidance);
  within("`guidance_img`", s.guidance_img.value_or(1), -kMaxGuidance, kMaxGuidance);
  within("`flow_shift`", s.flow_shift.value_or(1), kMinFlowShift, kMaxFlowShift);
  within("`crf`", request.crf, 0, kMaxCrf);
  check_frames(request.config);
}

void check_size(const char* flags, PixelSize size) {
  if (std::min(size.height, size.width) >= 1 && std::max(size.height, size.width) <= kMaxEdge) return;
  throw UsageError(
      fmt::format("{}: expected 1 to {} pixels each, found {}x{}", flags, kMaxEdge, size.width, size.height));
}

PixelSize requested_size(const Config& config) {
  const SamplingConfig& s = config.sampling;
  PixelSize size;
  if (s.resolution && s.aspect_ratio) {
    size = sampling::image_size(*s.resolution, *s.aspect_ratio, config.ae_spatial_compression);
  } else if (s.resolution || s.aspect_ratio) {
    throw UsageError("a resolution and an aspect ratio go together: only " +
                     std::string(s.resolution ? "the resolution" : "the aspect ratio") + " is given");
  } else if (s.height && s.width) {
    size = {*s.width, *s.height};
  } else {
    throw UsageError("no size: give `resolution` and `aspect_ratio`, or `width` and `height`");
  }
  check_size("`width` and `height`", size);
  const PixelSize rounded = sampling::round_up(size, config.ae_spatial_compression);
  if (rounded != size) {
    spdlog::info("size {}x{} is rounded up to {}x{}, a multiple of {}", size.width, size.height, rounded.width,
                 rounded.height, config.ae_spatial_compression);
  }
  return rounded;
}

sampling::LatentShape latent_shape_of(const Config& config, PixelSize size) {
  const int64_t patch = config.model.patch_size;
  return {.channels = config.model.in_channels / (patch * patch),
          .frames = sampling::latent_frames(config.sampling.num_frames, config.sampling.temporal_reduction),
          .height = patch * (size.height / config.ae_spatial_compression),
          .width = patch * (size.width / config.ae_spatial_compression)};
}

// Checks the size that will be encoded: that of the frames, or what they are scaled to.
void check_encoding(const GenerateRequest& request, PixelSize size, const std::filesystem::path& output) {
  const media::Encoding encoding = media::resolve_encoding(output, request.codec, request.pix_fmt);
  const PixelSize scaled = request.output_size.value_or(PixelSize{});
  const media::Size made{static_cast<int>(size.width), static_cast<int>(size.height)};
  const media::Size asked{static_cast<int>(scaled.width), static_cast<int>(scaled.height)};
  media::check_encodable(encoding, media::coded_size(media::output_size(made, asked), encoding.pixel_format));
}

std::filesystem::path output_of(const Job& job) {
  const GenerateRequest& request = job.request;
  const int64_t frames = request.image_only ? 1 : request.config.sampling.num_frames;
  std::filesystem::path output =
      request.output.empty() ? default_output(request.prompt, job.seed, frames, request.codec) : request.output;
  std::error_code error;
  if (!output.has_filename() || std::filesystem::is_directory(output, error)) {
    throw OutputError(output.string() + " is a folder; give `output` a file name");
  }
  if (frames > 1) {
    check_encoding(request, job.size, output);
  } else if (output.extension() != ".png") {
    throw UsageError("`output` " + output.string() + ": one frame is written as .png, found \"" +
                     output.extension().string() + "\"");
  }
  return output;
}

PixelSize picture_size(const GenerateRequest& request, PixelSize video) {
  if (request.image_size) {
    check_size("`image_size`", *request.image_size);
    return sampling::round_up(*request.image_size, 16);
  }
  const std::string ratio = request.config.sampling.aspect_ratio.value_or(sampling::nearest_aspect_ratio(video));
  return sampling::text_to_image_size(request.config.text_to_image->resolution, ratio);
}

// FLUX compresses by 8 and reads patches of 2, whatever the video's autoencoder.
void plan_picture(Job& job) {
  const GenerateRequest& request = job.request;
  const Config& config = request.config;
  const int64_t patch = config.text_to_image->model.patch_size;
  job.makes_picture = true;
  job.picture_size = picture_size(request, job.size);
  job.picture_latent = {.channels = config.text_to_image->model.in_channels / (patch * patch),
                        .frames = 1,
                        .height = job.picture_size.height / 8,
                        .width = job.picture_size.width / 8};
  job.picture_schedule = job.schedule;
  job.picture_schedule.latent_frames = 1;
  job.picture_schedule.tokens_per_frame = job.picture_latent.rows(patch) * job.picture_latent.columns(patch);
  if (request.image_only) return;
  job.condition = sampling::ConditionType::kI2VHead;
}

sampling::Rng rng_of(const GenerateRequest& request, at::ScalarType dtype) {
  const std::optional<int64_t> blocks = rng_blocks(request.rng);
  if (!blocks) throw UsageError("`rng`: expected cpu, cuda or cuda:BLOCKS, found \"" + request.rng + "\"");
  return {.cuda_blocks = *blocks, .dtype = dtype};
}

uint64_t random_seed() {
  std::random_device source;
  return source();  // 32 bits, as the official code draws it
}

GenerateResult describe(const Job& job) {
  const GenerateRequest& request = job.request;
  GenerateResult result;
  result.output = job.output;
  result.image = request.image_only ? job.output : job.picture_file;
  result.seed = job.seed;
  result.effective_prompt = request.image_only ? request.prompt : job.effective_prompt;
  result.width = request.image_only ? job.picture_size.width : job.size.width;
  result.height = request.image_only ? job.picture_size.height : job.size.height;
  result.frames = request.image_only ? 1 : request.config.sampling.num_frames;
  result.steps = job.schedule.num_steps;
  result.device = job.device.str();
  result.dtype = dtype_name(job.dtype);
  return result;
}

// The steps of what is made: a picture alone, or the video.
sampling::StepSchedule main_schedule(const Job& job) {
  return job.request.image_only ? picture_steps(job) : step_schedule(job);
}

CachePolicy steps_for_speed(const Job& job) {
  const GenerateRequest& request = job.request;
  if (request.speed > kMaxSpeed) {
    throw UsageError(fmt::format("`speed`: expected 1 to {:g}, found {:g}", kMaxSpeed, request.speed));
  }
  return sampling::steps_for_speed(
      request.speed, main_schedule(job),
      request.calibration.empty() ? sampling::typical_changes() : read_calibration(request.calibration));
}

CachePolicy cache_of(const Job& job) {
  const GenerateRequest& request = job.request;
  if (job.solver == sampling::SolverKind::kHeun && (request.speed > 1 || request.cache != "none")) {
    throw UsageError("`sampler` heun: runs each step twice, and goes without `cache` and `speed`; the others do not");
  }
  if (request.speed > 1) return steps_for_speed(job);
  const std::optional<CachePolicy> policy = parse_cache(request.cache);
  if (!policy) {
    throw UsageError("`cache`: expected none, pairs, pairs:THRESHOLD or steps:LIST, found \"" + request.cache + "\"");
  }
  if (policy->steps.empty()) return *policy;
  const int64_t last = policy->steps.back(), steps = job.schedule.num_steps;
  if (last > steps) {
    throw UsageError(fmt::format("`cache` {}: expected steps up to {} (`steps`), found {}; `speed` makes such a list",
                                 request.cache, steps, last));
  }
  if (last < steps) {
    spdlog::warn("`cache` {}: not even the last of {} steps is computed; is it the list of a run with fewer `steps`?",
                 request.cache, steps);
  }
  return *policy;
}

}  // namespace

Job make_job(const GenerateRequest& request) {
  text::check_utf8(request.prompt, "the prompt");
  text::check_utf8(request.negative_prompt, "the negative prompt");
  check_numbers(request);

  Job job;
  job.request = request;
  job.condition = sampling::parse_condition_type(request.config.cond_type);
  check_condition(request, job.condition);
  job.seed = request.seed                   ? *request.seed
             : request.config.sampling.seed ? *request.config.sampling.seed
                                            : random_seed();
  job.size = requested_size(request.config);
  job.latent_shape = latent_shape_of(request.config, job.size);
  const SamplingConfig& s = request.config.sampling;
  const int64_t patch = request.config.model.patch_size;
  job.schedule = {.num_steps = s.num_steps,
                  .tokens_per_frame = job.latent_shape.rows(patch) * job.latent_shape.columns(patch),
                  .latent_frames = job.latent_shape.frames,
                  .shift = s.shift,
                  .flow_shift = s.flow_shift};
  if (request.config.use_t2i2v) plan_picture(job);
  if (!request.image_only) sampling::check_condition_length(job.condition, s.num_frames, s.temporal_reduction);
  job.effective_prompt =
      text::add_suffixes(request.prompt, request.config.fps_save.rounded(), request.config.motion_score);
  job.device = resolve_device(request.device);
  job.dtype = resolve_dtype(request.dtype, job.device);
  job.rng = rng_of(request, job.dtype);
  job.solver = sampling::parse_solver(request.sampler);
  job.wants_fp8_attention = wants_fp8(request.attention);
  job.timestep_rounding = sampling::parse_timestep_rounding(request.timestep_rounding);
  if (job.timestep_rounding == sampling::TimestepRounding::kOfficial && job.dtype == at::kFloat) {
    spdlog::warn("`timestep_rounding` official: rounds nothing in fp32");
  }
  job.cache = cache_of(job);
  return job;
}

// Two outputs in one file would be found out when the second is written.
void check_outputs_differ(const Job& job) {
  const GenerateRequest& request = job.request;
  std::vector<std::pair<const char*, std::filesystem::path>> outputs = {{"`output`", job.output},
                                                                        {"`save_tensors`", request.save_tensors},
                                                                        {"`contact_sheet`", request.contact_sheet},
                                                                        {"`save_frames`", request.save_frames}};
  if (request.sidecar) outputs.emplace_back("`sidecar`", sidecar_file(job.output));
  if (!request.image_only) outputs.emplace_back("the latent", latent_file(job.output));
  std::map<std::filesystem::path, const char*> seen;
  for (const auto& [name, file] : outputs) {
    if (file.empty()) continue;
    const auto [other, is_new] = seen.emplace(std::filesystem::absolute(file).lexically_normal(), name);
    if (is_new) continue;
    throw UsageError(
        fmt::format("{} and {} would be the same file, {}; give each its own", other->second, name, file.string()));
  }
}

void settle_output(Job& job) {
  GenerateRequest& request = job.request;
  job.output = output_of(job);
  check_outputs_differ(job);
  check_output(job.output, request.overwrite);
  if (!request.save_tensors.empty()) check_output(request.save_tensors, request.overwrite);
  check_extra_outputs(request, request.image_only ? 1 : request.config.sampling.num_frames);
  if (request.sidecar) check_output(sidecar_file(job.output), request.overwrite);
  if (!request.image_only) {
    if (job.latent_file.empty()) job.latent_file = latent_file(job.output);
    if (job.makes_picture) job.picture_file = beside(job.output, ".png");
  }
  request.seed = job.seed;
  request.output = job.output;
  job.result = describe(job);
}

sampling::StepSchedule step_schedule(const Job& job) {
  const sampling::GuidanceOptions guidance = guidance_options(job.request.config, job.condition);
  sampling::StepSchedule schedule{.timesteps = sampling::timesteps(job.schedule), .branches = {}};
  for (int64_t step = 0; step < job.schedule.num_steps; ++step) {
    schedule.branches.push_back(
        sampling::branch_weights(guidance, {.step = step,
                                            .steps = job.schedule.num_steps,
                                            .latent_frames = job.latent_shape.frames,
                                            .has_condition = job.condition != sampling::ConditionType::kT2V})
            .forwards());
  }
  return schedule;
}

sampling::StepSchedule picture_steps(const Job& job) {
  return {.timesteps = sampling::timesteps(job.picture_schedule),
          .branches = std::vector<int>(job.picture_schedule.num_steps, 1)};
}

namespace {

int64_t expected_forwards(const Job& job, const sampling::StepSchedule& schedule, int64_t first = 0) {
  const std::vector<bool> computed = sampling::computed_steps(job.cache, schedule, sampling::typical_changes());
  int64_t forwards = 0;
  for (const sampling::Evaluation& at : sampling::evaluations(job.solver, schedule.steps())) {
    if (at.step >= first && computed[at.step]) forwards += schedule.branches[at.step];
  }
  return forwards;
}

}  // namespace

int64_t sampling_forwards(const Job& job, int64_t first) { return expected_forwards(job, step_schedule(job), first); }

int64_t picture_forwards(const Job& job) { return expected_forwards(job, picture_steps(job)); }

nn::StepRange fp8_steps(const Job& job) { return nn::fp8_steps(job.schedule.num_steps); }

int64_t fp8_forwards(const Job& job) {
  const nn::StepRange steps = fp8_steps(job);
  return sampling_forwards(job, steps.first) - sampling_forwards(job, steps.end);
}

sampling::GuidanceOptions guidance_options(const Config& config, sampling::ConditionType condition) {
  const SamplingConfig& s = config.sampling;
  return {.text = s.guidance,
          .image = s.guidance_img.value_or(1),
          .text_osci = s.text_osci,
          .image_osci = s.image_osci,
          .temporal_osci = s.scale_temporal_osci && sampling::is_image_condition(condition)};
}

void prepare_machine(const GenerateRequest& request) {
  use_threads(request.threads);
  nn::prefer_fast_attention();
}

void settle_attention(std::span<const Job> jobs) {
  const at::Device device = jobs.front().device;
  const auto tokens = [](const Job& job) { return job.image_tokens() + job.request.config.t5.max_length; };
  const Job* largest = nullptr;
  for (const Job& job : jobs) {
    if (!job.has_latent && (largest == nullptr || tokens(job) > tokens(*largest))) largest = &job;
  }
  if (device.is_cpu() || largest == nullptr) return;
  const MMDiTConfig& model = largest->request.config.model;
  nn::choose_attention({.device = device,
                        .dtype = largest->dtype,
                        .heads = model.num_heads,
                        .tokens = tokens(*largest),
                        .head_dim = model.head_dim()});
}

void begin(Job& job) {
  GenerateResult& result = job.result;
  const Config& config = job.request.config;
  result.attention =
      nn::attention_backend(job.device, job.dtype, job.image_tokens() + config.t5.max_length, config.model.head_dim());
  spdlog::info("{}{}: {}x{}, {} frames, {} steps, seed {}, {} {}, {} tokens, attention: {}", job.label,
               sampling::condition_name(job.condition), result.width, result.height, result.frames, result.steps,
               result.seed, result.device, computing_text(job.dtype, job.device), job.image_tokens(), result.attention);
}

}  // namespace run
}  // namespace opensora
