// Which file each model of a run is read from.
#pragma once

#include <filesystem>

#include "opensora/generate.h"

namespace opensora::pipeline {

// What io::Checkpoint::open() takes. All throw CheckpointError if there is none.
std::filesystem::path video_transformer_file(const GenerateRequest& request);
std::filesystem::path video_autoencoder_file(const GenerateRequest& request);
// Only for configurations with text_to_image.
std::filesystem::path image_transformer_file(const GenerateRequest& request);
std::filesystem::path image_autoencoder_file(const GenerateRequest& request);

// The bundled demo model's folder.
bool is_demo_folder(const std::filesystem::path& model_dir);
// Whether a configuration is for other weights than the demo's: a bundled one, or one that reads text encoders of the
// published widths.
bool is_for_other_weights_than_demo(const Config& config);

}  // namespace opensora::pipeline
