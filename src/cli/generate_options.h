// All flags of `generate`: what another command that takes a request has too.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/batch_options.h"
#include "cli/condition_options.h"
#include "cli/logging.h"
#include "cli/model_options.h"
#include "cli/sampling_options.h"
#include "opensora/generate.h"

namespace opensora::cli {

// Flags write into its members as they are parsed: it outlives its command and stays where it is.
struct GenerateOptions {
  GenerateRequest request;  // what flags set directly; resolve() completes it
  bool keeps_size = false;  // --output-size none: the configuration's does not count
  std::string progress = "auto";
  bool json = false;
  std::filesystem::path from;  // a finished video whose request lies below the flags; empty: none
  bool print_config = false;   // instead of running
  bool needs_prompt = true;    // false: it may be left out, and is empty then; to be set before add_to()
  ModelOptions model;
  SamplingOptions sampling;
  ConditionOptions condition;
  BatchFlags batch;
  LogOptions log;

  GenerateOptions() = default;
  GenerateOptions(const GenerateOptions&) = delete;
  GenerateOptions& operator=(const GenerateOptions&) = delete;

  void add_to(CLI::App& command);

  // The group "Output", without --from and --print-config.
  void add_output_options(CLI::App& command);

  // --aspect-ratio list: the sizes are to be printed, and nothing else.
  bool lists_sizes() const { return sampling.aspect_ratio == "list"; }

  // The request with its model folder, and its configuration overridden by the flags. Throws UsageError for flags that
  // contradict each other or a missing --prompt (needs_prompt), CheckpointError for a model folder that is none.
  GenerateRequest resolve() const;
  // The same with the model folder and the configuration of a run of several requests.
  GenerateRequest resolve(const std::filesystem::path& model_dir, const Config& config) const;

 private:
  void add_prompt_options(CLI::App& command);
  void add_memory_options(CLI::App& command);
  void add_metadata_options(CLI::App& command);

  CLI::Option* prompt_ = nullptr;  // its count: an empty prompt is one too
};

}  // namespace opensora::cli
