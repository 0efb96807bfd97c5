#include "pipeline/plan.h"

#include <spdlog/spdlog.h>

#include <cctype>
#include <cmath>
#include <random>

#include "core/device.h"
#include "core/output_file.h"
#include "opensora/error.h"
#include "text/prompt.h"
#include "text/unicode.h"

namespace opensora {

std::filesystem::path default_output(const std::string& prompt, uint64_t seed, int64_t frames) {
  constexpr size_t kLongestName = 40;
  std::string name;
  for (const unsigned char c : prompt) {
    if (std::isalnum(c) != 0) {
      name += static_cast<char>(std::tolower(c));
    } else if (!name.empty() && name.back() != '-') {
      if (name.size() >= kLongestName) break;
      name += '-';
    }
    if (name.size() >= 2 * kLongestName) break;
  }
  while (!name.empty() && name.back() == '-') name.pop_back();
  if (name.empty()) name = "video";
  return name + "-" + std::to_string(seed) + (frames == 1 ? ".png" : ".mp4");
}

namespace pipeline {
namespace {

// What the configuration may ask for and this version cannot do.
void check_supported(const Config& config) {
  if (config.cond_type == "t2v") return;
  throw UsageError(config.name + ": cond_type is \"" + config.cond_type +
                   "\"; this version makes videos from text alone (t2v)");
}

void check_numbers(const GenerateRequest& request) {
  const SamplingConfig& s = request.config.sampling;
  const auto at_least_one = [](const char* flag, int64_t value) {
    if (value < 1) throw UsageError(std::string(flag) + ": expected at least 1, found " + std::to_string(value));
  };
  const auto finite = [](const char* flag, double value) {
    if (!std::isfinite(value)) throw UsageError(std::string(flag) + ": expected a finite number");
  };
  at_least_one("--steps", s.num_steps);
  at_least_one("--num-frames", s.num_frames);
  at_least_one("--fps", request.config.fps_save);
  finite("--guidance", s.guidance);
  if (s.guidance_img) finite("--guidance-img", *s.guidance_img);
  if (s.flow_shift && !(std::isfinite(*s.flow_shift) && *s.flow_shift > 0)) {
    throw UsageError("--flow-shift: expected a finite number above 0");
  }
  if (request.crf < 0 || request.crf > 51) {
    throw UsageError("--crf: expected 0 to 51, found " + std::to_string(request.crf));
  }
  sampling::check_num_frames(s.num_frames, s.temporal_reduction);
}

sampling::Size requested_size(const Config& config) {
  const SamplingConfig& s = config.sampling;
  sampling::Size size;
  if (s.resolution && s.aspect_ratio) {
    size = sampling::image_size(*s.resolution, *s.aspect_ratio, config.ae_spatial_compression);
  } else if (s.resolution || s.aspect_ratio) {
    throw UsageError("a resolution and an aspect ratio go together: only " +
                     std::string(s.resolution ? "the resolution" : "the aspect ratio") + " is given");
  } else if (s.height && s.width) {
    size = {*s.height, *s.width};
  } else {
    throw UsageError("no size: give --resolution and --aspect-ratio, or --width and --height");
  }
  if (size.height < 1 || size.width < 1) {
    throw UsageError("--width and --height: expected at least 1, found " + std::to_string(size.width) + " and " +
                     std::to_string(size.height));
  }
  const sampling::Size rounded = sampling::round_up(size, config.ae_spatial_compression);
  if (rounded != size) {
    spdlog::info("size {}x{} is rounded up to {}x{}, a multiple of {}", size.width, size.height, rounded.width,
                 rounded.height, config.ae_spatial_compression);
  }
  return rounded;
}

sampling::LatentShape latent_shape(const Config& config, sampling::Size size) {
  const int64_t patch = config.model.patch_size;
  return {.channels = config.model.in_channels / (patch * patch),
          .frames = sampling::latent_frames(config.sampling.num_frames, config.sampling.temporal_reduction),
          .height = patch * (size.height / config.ae_spatial_compression),
          .width = patch * (size.width / config.ae_spatial_compression)};
}

std::filesystem::path checked_output(const GenerateRequest& request, uint64_t seed) {
  const int64_t frames = request.config.sampling.num_frames;
  const std::filesystem::path output =
      request.output.empty() ? default_output(request.prompt, seed, frames) : request.output;
  const std::string expected = frames == 1 ? ".png" : ".mp4";
  if (output.extension() != expected) {
    throw UsageError("-o " + output.string() + ": " +
                     (frames == 1 ? "one frame is written as " : "a video is written as ") + expected + ", found \"" +
                     output.extension().string() + "\"");
  }
  check_output(output, request.overwrite);
  if (!request.save_tensors.empty()) check_output(request.save_tensors, request.overwrite);
  return output;
}

uint64_t random_seed() {
  std::random_device source;
  return source();  // 32 bits, as the official code draws it
}

}  // namespace

Plan make_plan(const GenerateRequest& request) {
  text::check_utf8(request.prompt, "the prompt");
  text::check_utf8(request.negative_prompt, "the negative prompt");
  check_supported(request.config);
  check_numbers(request);

  Plan plan;
  plan.seed = request.seed                   ? *request.seed
              : request.config.sampling.seed ? *request.config.sampling.seed
                                             : random_seed();
  plan.size = requested_size(request.config);
  plan.latent = latent_shape(request.config, plan.size);
  const SamplingConfig& s = request.config.sampling;
  const int64_t patch = request.config.model.patch_size;
  plan.schedule = {.num_steps = s.num_steps,
                   .tokens_per_frame = plan.latent.rows(patch) * plan.latent.columns(patch),
                   .latent_frames = plan.latent.frames,
                   .shift = s.shift,
                   .flow_shift = s.flow_shift};
  plan.output = checked_output(request, plan.seed);
  plan.prompt = text::add_suffixes(request.prompt, request.config.fps_save, request.config.motion_score);
  plan.device = resolve_device(request.device);
  plan.dtype = resolve_dtype(request.dtype, plan.device);
  return plan;
}

}  // namespace pipeline
}  // namespace opensora
