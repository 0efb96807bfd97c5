// The flags of generate for runs of many videos.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "opensora/batch.h"

namespace opensora::cli {

struct BatchFlags {
  std::string prompts_file;     // "-": standard input; empty: --prompt
  std::string prompts_format;   // empty: by the file's name
  std::vector<uint64_t> seeds;  // more than one: a video each
  bool keep_going = false;      // the default, for scripts that want to say so
  BatchOptions options;

  void add_to(CLI::App& command);

  // Options as run_batch() takes them, but for the folder, which batch_outputs.h settles. Throws UsageError for flags
  // that contradict each other.
  BatchOptions resolve() const;
};

// "42", "1,2,3". Throws UsageError.
std::vector<uint64_t> parse_seeds(const std::string& text);

}  // namespace opensora::cli
