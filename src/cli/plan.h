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

// Plans the run and prints the plan, as a table or as one JSON object.
void print_plan(const GenerateRequest& request, const PlanFlags& flags, bool json);

}  // namespace opensora::cli
