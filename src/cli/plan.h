// Planning a run instead of starting it: `opensora plan` and `opensora generate --dry-run`.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/generate_options.h"

namespace opensora::cli {

struct PlanFlags {
  std::string device_memory;  // "24GiB"; empty: what there is

  void add_to(CLI::App& command);
};

// Plans the run that the options ask for and prints the plan, as a table or with --json as one object.
void print_plan(const GenerateOptions& options, const PlanFlags& flags);

}  // namespace opensora::cli
