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

// Whether it is the bundled demo model's folder.
bool is_demo_folder(const std::filesystem::path& model_dir);

}  // namespace opensora::pipeline
