// The subcommands, one file each.
#pragma once

#include <CLI/CLI.hpp>

namespace opensora::cli {

void add_generate(CLI::App& app);
void add_decode(CLI::App& app);
void add_plan(CLI::App& app);
void add_bench(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_inspect(CLI::App& app);
void add_verify(CLI::App& app);
void add_reconstruct(CLI::App& app);
void add_encode_text(CLI::App& app);
void add_completion(CLI::App& app);
void add_man(CLI::App& app);
void add_doctor(CLI::App& app);
void add_random_model(CLI::App& app);
void add_selftest(CLI::App& app);

}  // namespace opensora::cli
