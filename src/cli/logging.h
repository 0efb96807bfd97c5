// The log on stderr.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace opensora::cli {

// Level "info" on stderr, coloured on a terminal unless NO_COLOR is set.
void init_logging();

// A line of level "info" in front of whatever the log says next: of use beside what follows, and of none to somebody
// who only mistyped a flag. A later such line takes its place.
void log_with_next(std::string line);
void log_waiting_line();  // at once, if there is one
void drop_waiting_line();

// -q, -v and --log-level.
struct LogOptions {
  bool quiet = false;
  bool verbose = false;
  std::string level;

  void add_to(CLI::App& command);
  void apply() const;
};

}  // namespace opensora::cli
