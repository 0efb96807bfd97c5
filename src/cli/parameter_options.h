// A command's options, made of the rows of the parameter table.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "request/parameter.h"

namespace opensora::cli {

using request::FlagValues;

// An option a row, in the table's order; each sets its value in `settings` as it is parsed.
void add_parameters(CLI::App& command, request::Settings& settings,
                    const std::function<bool(const request::Parameter&)>& wanted);
void add_parameters(CLI::App& command, request::Settings& settings, const std::vector<std::string>& names);

// The long name that a flag goes by in FlagValues: "negative-prompt"; empty for one that has none.
std::string flag_name(const CLI::Option& option);

// What was given to a command that has been parsed, parameters and others.
FlagValues given_flags(const CLI::App& command);

// Numbers that are a command's own and no parameter.
CLI::Option* add_whole(CLI::App& command, const std::string& names, int& target, request::WholeRange range,
                       const std::string& description);
CLI::Option* add_whole(CLI::App& command, const std::string& names, int64_t& target, request::WholeRange range,
                       const std::string& description);
// Any number that 64 bits hold.
CLI::Option* add_seed(CLI::App& command, const std::string& names, uint64_t& target, const std::string& description);

}  // namespace opensora::cli
