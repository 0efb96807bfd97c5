// What flags are checked for as they are parsed, beside numbers.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace opensora::cli {

// One of these words. The option's type name shows them, as CLI::IsMember's would.
CLI::Validator one_of(const std::vector<std::string>& words);

// A given value that is empty, or nothing but spaces, is an error for every flag and argument of these commands but
// prompts (`--prompt`, `--negative-prompt`, TEXT), which may be empty. Call once all options are there.
void refuse_empty_values(CLI::App& command);

// May its value be empty?
bool may_be_empty(const CLI::Option& option);

}  // namespace opensora::cli
