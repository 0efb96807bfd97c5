// The log on stderr.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace opensora::cli {

// Level "info" on stderr, coloured on a terminal unless NO_COLOR is set.
void init_logging();

// -q, -v and --log-level.
struct LogOptions {
  bool quiet = false;
  bool verbose = false;
  std::string level;

  void add_to(CLI::App& command);
  void apply() const;
};

}  // namespace opensora::cli
