// Flags that several commands have.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace opensora::cli {

// --device, --dtype, --threads.
void add_machine_options(CLI::App& command, std::string& device, std::string& dtype, int& threads);

// --crf, --overwrite, --progress.
void add_writing_options(CLI::App& command, int& crf, bool& overwrite, std::string& progress);

}  // namespace opensora::cli
