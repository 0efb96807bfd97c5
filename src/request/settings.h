// What a command line, a row of a prompts file or an earlier video says about a run: as texts, and as values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
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
  std::filesystem::path trace;  // empty: none is written
};

}  // namespace opensora::request
