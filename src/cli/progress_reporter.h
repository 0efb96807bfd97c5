// Progress on stderr.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <map>
#include <string>

#include "opensora/generate.h"

namespace opensora::cli {

enum class ProgressStyle { kBar, kPlain, kNone };

// --progress, in the group "Output".
void add_progress_option(CLI::App& command, std::string& progress);

// "auto": a bar on a terminal, elsewhere "plain": a line every few seconds. Throws UsageError for an unknown word.
ProgressStyle resolve_progress_style(const std::string& name, bool quiet);

class ProgressReporter {
 public:
  using Clock = std::chrono::steady_clock;

  // `line_interval`: how far apart plain lines are at least.
  explicit ProgressReporter(ProgressStyle style, Clock::duration line_interval = std::chrono::seconds(5))
      : style_(style), line_interval_(line_interval) {}
  ~ProgressReporter();

  // Draws; throws InterruptedError once the run is to stop (opensora/stop.h).
  void operator()(const Progress& progress);

 private:
  void begin_stage(const Progress& progress);
  void draw_bar(const Progress& progress);
  void print_line(const Progress& progress);
  void clear_bar();
  std::string timing(const Progress& progress) const;  // elapsed and left

  ProgressStyle style_;
  Clock::duration line_interval_;
  std::string stage_;                                // with the video's number, where there are several
  std::map<std::string, Clock::time_point> starts_;  // of stages: two may run at the same time
  Clock::time_point last_line_;
  bool bar_drawn_ = false;
};

}  // namespace opensora::cli
