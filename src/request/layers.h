// From layers of values to a request: an earlier video (`--from`), the command line, a row of a prompts file; what
// comes later wins.
#pragma once

#include <string>
#include <string_view>

#include "request/settings.h"

namespace opensora::request {

bool has(const FlagValues& values, std::string_view name);

// `below`, less what `above` replaces (Parameter::replaces), and then `above`. `below_is_effective`: it is a finished
// video's whole request rather than what somebody typed, so that what follows from a replaced value goes with it.
FlagValues lay_over(const FlagValues& below, const FlagValues& above, bool below_is_effective);

// Sets all values in the table's order: of several of one parameter the last, or each where it takes several. Values of
// names that are no parameter are left out. Throws UsageError for a value that cannot be, and for parameters that need
// or exclude others.
void apply(const FlagValues& values, Settings& settings);

// The request that `values` make of a configuration: each set over it, then what follows from what was given, and what
// was not (condition, length, output size, seed). Throws UsageError, also where there is no prompt.
GenerateRequest resolve(const FlagValues& values, const std::filesystem::path& model_dir, const Config& config);

}  // namespace opensora::request
