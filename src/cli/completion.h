// Completion scripts for shells, made from the option table.
#pragma once

#include <string>
#include <vector>

#include "cli/option_table.h"

namespace opensora::cli {

// For `eval` or the shell's folder of completions; each ends in a newline.
std::string bash_completion(const std::vector<CommandRow>& table);
std::string zsh_completion(const std::vector<CommandRow>& table);
std::string fish_completion(const std::vector<CommandRow>& table);

}  // namespace opensora::cli
