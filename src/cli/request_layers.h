// Where a request's flags come from: `--from`, the command line, a row of a prompts file; what comes later wins.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

namespace opensora::cli {

// Long flag without dashes -> text; several values of one flag follow each other. Switches: "true" or "false".
using FlagValues = std::vector<std::pair<std::string, std::string>>;

// The long name that a flag goes by in FlagValues: "negative-prompt"; empty for one that has none.
std::string flag_name(const CLI::Option& option);
bool is_switch(const CLI::Option& option);

// What was given to a command that has been parsed.
FlagValues given_flags(const CLI::App& command);

// `below`, less what contradicts `above`, and then `above`: a flag of the same name; width and height against
// resolution and aspect ratio; references against other references and against FLUX's picture.
// `below_is_effective`: it is a finished video's whole request rather than what somebody typed, so that what follows
// from a replaced value goes with it: a cond_type with the references, FLUX's picture size with the video's size.
FlagValues lay_over(const FlagValues& below, const FlagValues& above, bool below_is_effective);

// Parses `values` with all of `command`'s checks, as if they had been typed; values of flags that it does not have are
// left out. Throws CLI::ParseError.
void parse_flags(CLI::App& command, const FlagValues& values);

}  // namespace opensora::cli
