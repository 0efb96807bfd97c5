#include "cli/sampling_options.h"

#include "cli/number_options.h"
#include "core/number_text.h"
#include "opensora/error.h"
#include "opensora/limits.h"

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
  if (score == "none" || parse_decimal(score)) return;
  throw UsageError("--motion-score: expected a number such as 4, or none, found \"" + score + "\"");
}

void add_sampler_flags(CLI::App& command, SamplingOptions& options) {
  const char* group = "Sampling";
  constexpr RealRange kGuidance = {-kMaxGuidance, kMaxGuidance};
  add_whole(command, "--steps", options.steps, {1, kMaxSteps}, "Denoising steps")->group(group);
  add_real(command, "--guidance", options.guidance, kGuidance, "Guidance on the text; 1 switches it off")->group(group);
  add_real(command, "--guidance-img", options.guidance_img, kGuidance,
           "Guidance on a reference image (no effect without one)")
      ->group(group);
  add_real(command, "--flow-shift", options.flow_shift, {kMinFlowShift, kMaxFlowShift},
           "Shift of the schedule (default: from the video's size)")
      ->group(group);
  add_switch(command, "text-osci", options.text_osci, "Oscillate the text guidance from step 10 on");
  add_switch(command, "image-osci", options.image_osci, "Oscillate the image guidance likewise");
  add_switch(command, "temporal-osci", options.temporal_osci, "Let the image guidance grow over the frames");
}

}  // namespace

void SamplingOptions::add_decoding_flags(CLI::App& command) {
  add_whole(command, "--num-frames", num_frames, {1, kMaxFrames}, "Frames of the whole video, 4k+1; 1 makes a picture")
      ->group("Video");
  add_frame_rate(command, "--fps", fps, "Frames a second, such as 24, 23.976 or 30000/1001")->group("Video");
  add_switch(command, "vae-tiling", vae_tiling, "Decode in tiles of space and time");
}

void SamplingOptions::add_video_flags(CLI::App& command) {
  const char* group = "Video";
  auto* by_name = command.add_option("--resolution", resolution, "256px, 768px, 720p, …")->group(group);
  auto* by_ratio = command.add_option("--aspect-ratio", aspect_ratio, "16:9, 9:16, 1:1, …")->group(group);
  auto* by_width = add_whole(command, "-W,--width", width, {1, kMaxEdge}, "Pixels; with --height")->group(group);
  auto* by_height = add_whole(command, "-H,--height", height, {1, kMaxEdge}, "Pixels; with --width")->group(group);
  by_width->needs(by_height)->excludes(by_name)->excludes(by_ratio);
  by_height->needs(by_width)->excludes(by_name)->excludes(by_ratio);
  add_decoding_flags(command);
}

CLI::Option* SamplingOptions::add_motion_score(CLI::App& command) {
  return command.add_option_function<std::string>(
      "--motion-score",
      [this](const std::string& text) {
        check_motion_score(text);
        motion_score = text;
      },
      "How much moves, a number, or none");
}

void SamplingOptions::add_to(CLI::App& command) {
  add_video_flags(command);
  command.get_option("--aspect-ratio")->description("16:9, 9:16, 1:1, …; list: print all sizes");
  add_motion_score(command)->group("Video");
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
    config.motion_score = motion_score;
  }
}

}  // namespace opensora::cli
