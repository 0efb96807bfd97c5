// What most commands take, and the model folder and the configuration that they mean by it.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "opensora/process.h"
#include "request/settings.h"

namespace opensora::cli {

// The values of a command's flags. As flags write into the members when they are parsed, it outlives its command and
// stays where it is. A command has the flags that it adds, and the others keep their defaults.
struct CommandOptions {
  request::Settings settings;  // as the flags alone say, without model folder and configuration
  bool json = false;
  std::string progress = "auto";

  // Of generate, plan and calibrate.
  std::filesystem::path from;  // a finished video whose request lies below the flags; empty: none
  bool print_config = false;   // instead of running
  bool only_plans = false;     // the prompt may be left out, and is empty then
  bool only_calibrates = false;

  bool quiet = false, verbose = false;
  std::string log_level;  // empty: as the two say

  CommandOptions() = default;
  CommandOptions(const CommandOptions&) = delete;
  CommandOptions& operator=(const CommandOptions&) = delete;

  void add_json_to(CLI::App& command, const std::string& description, const std::string& group = "");
  void add_progress_to(CLI::App& command);
  void add_log_to(CLI::App& command);  // -q, -v and --log-level
  void apply_log() const;
};

struct ModelFolder {
  std::filesystem::path path;
  std::string source;      // "--model-dir", "OPENSORA_MODEL_DIR", "./ckpts" or that it is the demo model
  bool was_named = false;  // by the flag or the variable
};

// `named` (--model-dir), else $OPENSORA_MODEL_DIR, else ./ckpts if it is there, else the bundled demo model. The folder
// need not exist.
ModelFolder choose_model_folder(const std::filesystem::path& named);

// The path of the same, which the log names. Throws CheckpointError if it is not a folder.
std::filesystem::path resolve_model_dir(const std::filesystem::path& named);

// `named` (--config), else the model folder's config.json, else "256px".
Config resolve_config(const std::string& named, const std::filesystem::path& folder);

// Does the work and, if it succeeds, writes its trace to `file` (--trace). Traces nothing where that is empty.
template <typename Work>
void run_traced(const std::filesystem::path& file, Work&& work) {
  std::optional<Trace> trace;
  if (!file.empty()) trace.emplace(file);
  std::forward<Work>(work)();
  if (trace) trace->finish();
}

}  // namespace opensora::cli
