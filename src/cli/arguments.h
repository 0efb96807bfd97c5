// The command line before the parser sees it, and what to say of it if the parser refuses it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace opensora::cli {

// The command that was given, or the program itself. `app` has been parsed as far as it went.
const CLI::App& selected(const CLI::App& app);

// What the parser would misread, in words that it understands: "help X" is "X --help", "--prompt=" gives an empty
// prompt. Throws UsageError for what it would take for something else: an empty "--crf=", "-steps" for --steps.
std::vector<std::string> prepare_arguments(const CLI::App& app, std::vector<std::string> arguments);

// One line for what the parser threw, in the program's own words. `app` has been parsed as far as it went.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error);

// The same where all flags are known, as in a row of a prompts file or in what --from says.
std::string parse_error_text(const CLI::ParseError& error);

// Whether --json is given to a command that has it. Also tells where parsing would fail.
bool asks_for_json(const CLI::App& app, const std::vector<std::string>& arguments);

}  // namespace opensora::cli
