// What a video is conditioned on besides its text, and FLUX in front of it.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "opensora/generate.h"

namespace opensora::cli {

struct ConditionOptions {
  std::string cond_type;  // empty: from what is given
  std::vector<std::string> images;
  std::string end_image, video;
  std::optional<bool> t2i2v;
  std::optional<PixelSize> image_size;
  std::string image_resolution;

  void add_to(CLI::App& command, GenerateRequest& request);
  // Sets the request's references and its configuration's cond_type and use_t2i2v.
  // Throws UsageError where --cond-type contradicts what is given.
  void apply(GenerateRequest& request) const;
};

// --t5xxl, --clip-l.
void add_text_encoder_files(CLI::App& command, ModelFiles& files);
// --diffusion-model, --vae, those, --flux, --flux-ae.
void add_model_files(CLI::App& command, ModelFiles& files);

}  // namespace opensora::cli
