// The subcommands, one file each.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace opensora::cli {

struct CommandOptions;

void add_generate(CLI::App& app);
void add_decode(CLI::App& app);
void add_plan(CLI::App& app);
void add_bench(CLI::App& app);
void add_calibrate(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_inspect(CLI::App& app);
void add_verify(CLI::App& app);
void add_reconstruct(CLI::App& app);
void add_compare(CLI::App& app);
void add_encode_text(CLI::App& app);
void add_completion(CLI::App& app);
void add_man(CLI::App& app);
void add_doctor(CLI::App& app);
void add_random_model(CLI::App& app);
void add_quantize(CLI::App& app);
void add_selftest(CLI::App& app);

// Plans what the flags of generate or plan ask for, and prints the plan: a run's stages as a table, or for a prompts
// file a line for each row and their sum. With options.json it prints an object for each row, on a line of its own.
void print_plans(const CommandOptions& options, const CLI::App& command, bool for_all_gpus = false);

// The first argument with which the scripts of `opensora completion` ask the program what may follow.
inline constexpr const char* kCompleteCommand = "__complete";

// Prints what the last of `words` (those after kCompleteCommand; it may be empty) may be, a line each: the word, a tab
// and its description. A line ":file" or ":directory" stands for the paths that the shell finds.
void print_completions(const CLI::App& app, const std::vector<std::string>& words);

}  // namespace opensora::cli
