// Planning a run instead of starting it: `opensora plan` and `opensora generate --dry-run`.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/generate_options.h"

namespace opensora::cli {

// Plans what the command's flags ask for and prints it: a run's stages as a table; of a prompts file a line a row and
// the whole. With options.json an object for each row, on a line of its own.
void print_plans(const GenerateOptions& options, const CLI::App& command);

}  // namespace opensora::cli
