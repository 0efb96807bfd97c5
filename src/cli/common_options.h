// Flags that several commands have.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace opensora::cli {

// --device and --threads, in the group "Machine".
void add_device_option(CLI::App& command, std::string& device);
void add_threads_option(CLI::App& command, int& threads);

// --device, --dtype, --threads.
void add_machine_options(CLI::App& command, std::string& device, std::string& dtype, int& threads);

// --progress, in the group "Output".
void add_progress_option(CLI::App& command, std::string& progress);

// --crf, --overwrite, --progress.
void add_writing_options(CLI::App& command, int& crf, bool& overwrite, std::string& progress);

}  // namespace opensora::cli
