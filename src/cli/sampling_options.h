// The flags that override a configuration's sampling values.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "opensora/config.h"

namespace opensora::cli {

struct SamplingOptions {
  std::optional<std::string> resolution, aspect_ratio;
  std::optional<int64_t> width, height;  // pixels
  std::optional<int64_t> num_frames, steps;
  std::optional<FrameRate> fps;
  std::optional<double> guidance, guidance_img, flow_shift;
  std::optional<bool> text_osci, image_osci, temporal_osci;
  std::optional<std::string> motion_score;  // a number, or "none"
  std::optional<bool> vae_tiling;

  void add_to(CLI::App& command);
  void add_decoding_flags(CLI::App& command);  // --num-frames, --fps and --vae-tiling alone
  void add_video_flags(CLI::App& command);     // these, and the video's size
  CLI::Option* add_motion_score(CLI::App& command);
  bool gives_size() const { return resolution || aspect_ratio || width || height; }
  void apply(Config& config) const;
};

}  // namespace opensora::cli
