#include "cli/sampling_options.h"

#include <cmath>
#include <cstdlib>

#include "opensora/error.h"

namespace opensora::cli {
namespace {

template <typename Target, typename Value>
void override_with(Target& target, const std::optional<Value>& value) {
  if (value) target = *value;
}

// A pair of flags that leaves the configuration's value alone where neither is given.
void add_switch(CLI::App& command, const std::string& name, std::optional<bool>& value,
                const std::string& description) {
  command
      .add_flag_function(
          "--" + name + ",!--no-" + name, [&value](int64_t count) { value = count > 0; }, description)
      ->group("Sampling");
}

void check_motion_score(const std::string& score) {
  char* end = nullptr;
  const double value = std::strtod(score.c_str(), &end);
  if (!score.empty() && *end == '\0' && std::isfinite(value)) return;
  throw UsageError("--motion-score: expected a number or none, found \"" + score + "\"");
}

void add_sampler_flags(CLI::App& command, SamplingOptions& options) {
  const char* group = "Sampling";
  command.add_option("--steps", options.steps, "Denoising steps")->group(group);
  command.add_option("--guidance", options.guidance, "Guidance on the text; 1 switches it off")->group(group);
  command.add_option("--guidance-img", options.guidance_img, "Guidance on a reference image (no effect without one)")
      ->group(group);
  command.add_option("--flow-shift", options.flow_shift, "Shift of the schedule (default: from the video's size)")
      ->group(group);
  add_switch(command, "text-osci", options.text_osci, "Oscillate the text guidance from step 10 on");
  add_switch(command, "image-osci", options.image_osci, "Oscillate the image guidance likewise");
  add_switch(command, "temporal-osci", options.temporal_osci, "Let the image guidance grow over the frames");
}

}  // namespace

void SamplingOptions::add_decoding_flags(CLI::App& command) {
  command.add_option("--num-frames", num_frames, "4k+1 frames; 1 makes a picture")->group("Video");
  command.add_option("--fps", fps, "Frames a second")->group("Video");
  add_switch(command, "vae-tiling", vae_tiling, "Decode in tiles of space and time");
}

void SamplingOptions::add_video_flags(CLI::App& command) {
  const char* group = "Video";
  auto* by_name = command.add_option("--resolution", resolution, "256px, 768px, 720p, …")->group(group);
  auto* by_ratio = command.add_option("--aspect-ratio", aspect_ratio, "16:9, 9:16, 1:1, …")->group(group);
  auto* by_width = command.add_option("-W,--width", width, "Pixels; with --height")->group(group);
  auto* by_height = command.add_option("-H,--height", height, "Pixels; with --width")->group(group);
  by_width->needs(by_height)->excludes(by_name)->excludes(by_ratio);
  by_height->needs(by_width)->excludes(by_name)->excludes(by_ratio);
  add_decoding_flags(command);
}

void SamplingOptions::add_to(CLI::App& command) {
  add_video_flags(command);
  command.get_option("--aspect-ratio")->description("16:9, 9:16, 1:1, …; list: print all sizes");
  command.add_option("--motion-score", motion_score, "How much moves, a number, or none")->group("Video");
  add_sampler_flags(command, *this);
}

void SamplingOptions::apply(Config& config) const {
  SamplingConfig& s = config.sampling;
  override_with(s.resolution, resolution);
  override_with(s.aspect_ratio, aspect_ratio);
  if (width && height) {
    s.resolution = s.aspect_ratio = std::nullopt;
    s.width = width;
    s.height = height;
  }
  override_with(s.num_frames, num_frames);
  override_with(config.fps_save, fps);
  override_with(s.num_steps, steps);
  override_with(s.guidance, guidance);
  override_with(s.guidance_img, guidance_img);
  override_with(s.flow_shift, flow_shift);
  override_with(s.text_osci, text_osci);
  override_with(s.image_osci, image_osci);
  override_with(s.scale_temporal_osci, temporal_osci);
  std::visit(
      [&](auto& ae) {
        override_with(ae.use_spatial_tiling, vae_tiling);
        override_with(ae.use_temporal_tiling, vae_tiling);
      },
      config.ae);
  if (!motion_score) return;
  if (*motion_score == "none") {
    config.motion_score = std::nullopt;
  } else {
    check_motion_score(*motion_score);
    config.motion_score = motion_score;
  }
}

}  // namespace opensora::cli
