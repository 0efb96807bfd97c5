// Which model folder and which configuration a command works with.
#pragma once

#include <filesystem>
#include <string>

#include "opensora/config.h"

namespace opensora::cli {

struct ModelFolder {
  std::filesystem::path path;
  std::string source;      // "--model-dir", "OPENSORA_MODEL_DIR", "./ckpts" or that it is the demo model
  bool was_named = false;  // by the flag or the variable
};

// `named` (--model-dir), else $OPENSORA_MODEL_DIR, else ./ckpts if it is there, else the bundled demo model. The folder
// need not exist.
ModelFolder choose_model_folder(const std::filesystem::path& named);

// The same; the log says which. Throws CheckpointError if it is not a folder.
std::filesystem::path resolve_model_dir(const std::filesystem::path& named);

// `named` (--config), else the model folder's config.json, else "256px".
Config resolve_config(const std::string& named, const std::filesystem::path& folder);

}  // namespace opensora::cli
