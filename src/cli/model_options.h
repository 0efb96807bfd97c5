// --model-dir and --config, which every command that reads a model has.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "opensora/config.h"

namespace opensora::cli {

struct ModelOptions {
  std::string model_dir;
  std::string config;

  void add_to(CLI::App& command);
  void add_config_to(CLI::App& command);  // --config alone

  // --model-dir, else $OPENSORA_MODEL_DIR, else ./ckpts if it is there, else the bundled demo model; the log says
  // which. Throws CheckpointError if it is not a folder.
  std::filesystem::path resolve_model_dir() const;
  // --config, else the model folder's config.json, else "256px".
  Config resolve_config(const std::filesystem::path& folder) const;
};

struct ModelFolder {
  std::filesystem::path path;
  std::string source;      // "--model-dir", "OPENSORA_MODEL_DIR", "./ckpts" or that it is the demo model
  bool was_named = false;  // by the flag or the variable
};

// As resolve_model_dir() chooses it from the value of --model-dir; it need not exist.
ModelFolder choose_model_folder(const std::string& flag);

}  // namespace opensora::cli
