// What a command line, a row of a prompts file or an earlier video says about a run: first as texts, in layers of which
// the later one wins, and then as values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "opensora/batch.h"
#include "opensora/generate.h"

namespace opensora::request {

// Long flag without dashes -> text; several values of one flag follow each other. Switches: "true" or "false".
using FlagValues = std::vector<std::pair<std::string, std::string>>;

// The values of all parameters (request/parameter.h), with the defaults of a flag that is not given.
struct Settings {
  GenerateRequest request;
  std::string config;           // a configuration's name or file; empty: the model folder's own, else 256px
  std::vector<uint64_t> seeds;  // more than one: a video each
  std::string prompts_format;   // empty: by the file's name
  bool keep_going = false;      // the default, for scripts that want to say so
  BatchOptions batch;           // its prompts_file is "-" for standard input
  int64_t device_memory = 0;    // bytes to plan for; 0: what the device has
  std::string gpu;              // to plan for, of known_gpus(); empty: the present device
  std::filesystem::path trace;  // empty: none is written
};

bool has(const FlagValues& values, std::string_view name);

// `below`, less what `above` replaces (Parameter::replaces), and then `above`. `below_is_effective`: it is a finished
// video's whole request rather than what somebody typed, so that what follows from a replaced value goes with it.
FlagValues lay_over(const FlagValues& below, const FlagValues& above, bool below_is_effective);

// Sets all values, in the table's order, above those of the preset that is among them. Of several values for one
// parameter the last one counts, or each where the parameter takes several. Names that are no parameter are ignored.
// Throws UsageError for a value that cannot be, and for parameters that need or exclude others.
void apply(const FlagValues& values, Settings& settings);

// The request that `values` make of a configuration. Each is set over it; then condition, length, output size and seed
// are settled by what was given and what was not. Throws UsageError, also where there is no prompt.
GenerateRequest resolve(const FlagValues& values, const std::filesystem::path& model_dir, const Config& config);

}  // namespace opensora::request
