// A command's options: those that are made of the rows of the parameter table, and checks for its own.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "request/parameter.h"

namespace opensora::cli {

using request::FlagValues;

// Adds an option for each row that is wanted, in the table's order. It sets its value in `settings` when it is parsed.
void add_parameters(CLI::App& command, request::Settings& settings,
                    const std::function<bool(const request::Parameter&)>& wanted);
void add_parameters(CLI::App& command, request::Settings& settings, const std::vector<std::string>& names);

// The long name that a flag goes by in FlagValues: "negative-prompt"; empty for one that has none.
std::string flag_name(const CLI::Option& option);

// Long names of the command's options that are no parameters.
std::vector<std::string> other_flags(const CLI::App& command);

// What was given to a command that has been parsed, parameters and others.
FlagValues given_flags(const CLI::App& command);

// Options that take a number and are a command's own, not parameters.
CLI::Option* add_whole(CLI::App& command, const std::string& names, int& target, request::WholeRange range,
                       const std::string& description);
CLI::Option* add_whole(CLI::App& command, const std::string& names, int64_t& target, request::WholeRange range,
                       const std::string& description);
// Any number that 64 bits hold.
CLI::Option* add_seed(CLI::App& command, const std::string& names, uint64_t& target, const std::string& description);

// Accepts one of these words. The option's type name shows them, as with CLI::IsMember.
CLI::Validator one_of(const std::vector<std::string>& words);

// From now on a value that is empty or nothing but spaces is an error for every flag and argument of `command` and of
// the commands below it, except for prompts (`--prompt`, `--negative-prompt`, TEXT). Call it once all options are
// there.
void refuse_empty_values(CLI::App& command);

// Whether the option takes an empty value.
bool may_be_empty(const CLI::Option& option);

}  // namespace opensora::cli
