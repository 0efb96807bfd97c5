// All flags of `generate`, which `plan` has too.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "cli/logging.h"
#include "cli/parameter_options.h"

namespace opensora::cli {

// Flags write into its members as they are parsed: it outlives its command and stays where it is.
struct GenerateOptions {
  request::Settings settings;  // as the flags alone say, without model folder and configuration
  std::string progress = "auto";
  bool json = false;
  std::filesystem::path from;  // a finished video whose request lies below the flags; empty: none
  bool print_config = false;   // instead of running
  bool only_plans = false;     // the prompt may be left out, and is empty then; to be set before add_to()
  LogOptions log;

  GenerateOptions() = default;
  GenerateOptions(const GenerateOptions&) = delete;
  GenerateOptions& operator=(const GenerateOptions&) = delete;

  void add_to(CLI::App& command);

  // --aspect-ratio list: the sizes are to be printed, and nothing else.
  bool lists_sizes() const { return settings.request.config.sampling.aspect_ratio == "list"; }
};

// Throws UsageError for --crf with a codec that has no quality to set.
void check_quality(const CLI::App& command, const request::Settings& settings);

// Options of a batch as run_batch() takes them, but for the folder, which batch_outputs.h settles. Throws UsageError
// for
// --shard without --output-dir.
BatchOptions batch_options(const request::Settings& settings);

}  // namespace opensora::cli
