#include "cli/progress_reporter.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/validators.h"
#include "opensora/error.h"
#include "opensora/stop.h"

namespace opensora::cli {
namespace {

// "1:05", "2:03:00"
std::string clock_text(double seconds) {
  const int64_t total = std::lround(seconds);
  const int64_t hours = total / 3600, minutes = total / 60 % 60, rest = total % 60;
  char text[32];
  if (hours > 0) {
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", static_cast<long>(hours), static_cast<long>(minutes),
                  static_cast<long>(rest));
  } else {
    std::snprintf(text, sizeof text, "%ld:%02ld", static_cast<long>(minutes), static_cast<long>(rest));
  }
  return text;
}

}  // namespace

void add_progress_option(CLI::App& command, std::string& progress) {
  command.add_option("--progress", progress, "auto, bar, plain or none")
      ->check(one_of({"auto", "bar", "plain", "none"}))
      ->capture_default_str()
      ->group("Output");
}

ProgressStyle resolve_progress_style(const std::string& name, bool quiet) {
  if (name == "none" || (quiet && name == "auto")) return ProgressStyle::kNone;
  if (name == "bar") return ProgressStyle::kBar;
  if (name == "plain") return ProgressStyle::kPlain;
  if (name == "auto") return isatty(STDERR_FILENO) != 0 ? ProgressStyle::kBar : ProgressStyle::kPlain;
  throw UsageError("--progress: expected auto, bar, plain or none, found \"" + name + "\"");
}

ProgressReporter::~ProgressReporter() { clear_bar(); }

void ProgressReporter::operator()(const Progress& progress) {
  throw_if_stopped();
  begin_stage(progress);
  if (progress.total == 0) return;
  if (style_ == ProgressStyle::kBar) draw_bar(progress);
  if (style_ == ProgressStyle::kPlain) print_line(progress);
}

void ProgressReporter::begin_stage(const Progress& progress) {
  std::string stage(progress.stage);
  if (progress.videos > 1 && progress.video > 0) {
    stage.append(" ").append(std::to_string(progress.video)).append("/").append(std::to_string(progress.videos));
  }
  if (stage != stage_) clear_bar();
  stage_ = std::move(stage);
  // A stage that is first heard of in its midst begins with that: not every unit of work announces itself.
  if (progress.total > 0 && starts_.contains(stage_)) return;
  starts_[stage_] = last_line_ = Clock::now();
}

std::string ProgressReporter::timing(const Progress& progress) const {
  const double elapsed = std::chrono::duration<double>(Clock::now() - starts_.at(stage_)).count();
  std::string text = clock_text(elapsed) + " elapsed";
  if (progress.done <= 0) return text;
  const double left =
      elapsed / static_cast<double>(progress.done) * static_cast<double>(progress.total - progress.done);
  return text + ", " + clock_text(left) + " left";
}

void ProgressReporter::draw_bar(const Progress& progress) {
  constexpr int64_t kWidth = 30;
  const auto filled = static_cast<size_t>(std::clamp<int64_t>(kWidth * progress.done / progress.total, 0, kWidth));
  const std::string bar = std::string(filled, '=') + std::string(kWidth - filled, ' ');
  std::fprintf(stderr, "\r%-8s [%s] %ld/%ld, %s\033[K", stage_.c_str(), bar.c_str(), static_cast<long>(progress.done),
               static_cast<long>(progress.total), timing(progress).c_str());
  std::fflush(stderr);
  bar_drawn_ = true;
  if (progress.done >= progress.total) {
    clear_bar();
    starts_.erase(stage_);
  }
}

// A line every few seconds: nothing for a stage that is over before.
void ProgressReporter::print_line(const Progress& progress) {
  const auto now = Clock::now();
  if (now - last_line_ < line_interval_) return;
  last_line_ = now;
  std::fprintf(stderr, "%s %ld/%ld, %s\n", stage_.c_str(), static_cast<long>(progress.done),
               static_cast<long>(progress.total), timing(progress).c_str());
}

void ProgressReporter::clear_bar() {
  if (!bar_drawn_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  bar_drawn_ = false;
}

}  // namespace opensora::cli
