// What the program says on stderr while it works: the log, and progress.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "opensora/generate.h"

namespace opensora::cli {

// Sends the log to stderr, from level "info" on, and coloured on a terminal unless NO_COLOR is set. Fields that
// messages name are told as flags (request::with_flags()).
void init_logging();

// Keeps a line of level "info" until the log says something else, and puts it in front of that: it helps to understand
// what follows, but not somebody who only mistyped a flag. A later such line takes its place.
void log_with_next(std::string line);
void log_waiting_line();  // at once, if there is one
void drop_waiting_line();

enum class ProgressStyle { kBar, kPlain, kNone };

// "auto" is a bar on a terminal and "plain" elsewhere, which is a line every few seconds. Throws UsageError for an
// unknown word.
ProgressStyle resolve_progress_style(const std::string& name, bool quiet);

class ProgressReporter {
 public:
  using Clock = std::chrono::steady_clock;

  // `line_interval`: how far apart plain lines are at least.
  explicit ProgressReporter(ProgressStyle style, Clock::duration line_interval = std::chrono::seconds(5))
      : style_(style), line_interval_(line_interval) {}
  ~ProgressReporter();

  // Draws the progress. Throws InterruptedError once the run is to stop (opensora/process.h).
  void operator()(const Progress& progress);

 private:
  void begin_stage(const Progress& progress);
  void draw_bar(const Progress& progress);
  void print_line(const Progress& progress);
  std::string timing(const Progress& progress) const;  // elapsed and left

  ProgressStyle style_;
  Clock::duration line_interval_;
  std::string stage_;                                // with the video's number, where there are several
  std::map<std::string, Clock::time_point> starts_;  // of stages: two may run at the same time
  Clock::time_point last_line_;
};

}  // namespace opensora::cli
