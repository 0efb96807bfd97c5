#include "cli/standard_error.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "core/stopwatch.h"
#include "opensora/error.h"
#include "opensora/process.h"
#include "request/parameter.h"

namespace opensora::cli {
namespace {

std::mutex g_waiting_mutex;
std::string g_waiting_line;

std::string take_waiting_line() {
  const std::lock_guard lock(g_waiting_mutex);
  return std::exchange(g_waiting_line, {});
}

// Whether the terminal's last line is a bar, which a line of the log takes away: the next report draws it again.
std::atomic<bool> g_bar_is_drawn = false;

void clear_bar() {
  if (!g_bar_is_drawn.exchange(false)) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

using StderrSink = spdlog::sinks::ansicolor_stderr_sink<spdlog::details::console_mutex>;

class PatientSink final : public StderrSink {
 public:
  using StderrSink::StderrSink;
  void log(const spdlog::details::log_msg& message) override {
    log_waiting_line();
    clear_bar();
    const std::string text = request::with_flags({message.payload.data(), message.payload.size()});
    spdlog::details::log_msg told = message;
    told.payload = text;
    StderrSink::log(told);
  }
};

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

void log_with_next(std::string line) {
  const std::lock_guard lock(g_waiting_mutex);
  g_waiting_line = std::move(line);
}

void log_waiting_line() {
  if (const std::string line = take_waiting_line(); !line.empty()) spdlog::info("{}", line);
}

void drop_waiting_line() { take_waiting_line(); }

void init_logging() {
  const char* no_color = std::getenv("NO_COLOR");
  const bool plain = no_color != nullptr && *no_color != '\0';
  auto sink = std::make_shared<PatientSink>(plain ? spdlog::color_mode::never : spdlog::color_mode::automatic);
  auto logger = std::make_shared<spdlog::logger>("opensora", std::move(sink));
  logger->set_pattern("opensora: %^%l%$: %v");
  spdlog::set_default_logger(std::move(logger));
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
  // Not every stage announces itself: it may begin with a report from its midst.
  if (progress.total > 0 && starts_.contains(stage_)) return;
  starts_[stage_] = last_line_ = Clock::now();
}

std::string ProgressReporter::timing(const Progress& progress) const {
  const double elapsed = seconds_since(starts_.at(stage_));
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
  g_bar_is_drawn = true;
  if (progress.done >= progress.total) {
    clear_bar();
    starts_.erase(stage_);
  }
}

// Prints a line every few seconds, and so none for a short stage.
void ProgressReporter::print_line(const Progress& progress) {
  const auto now = Clock::now();
  if (now - last_line_ < line_interval_) return;
  last_line_ = now;
  std::fprintf(stderr, "%s %ld/%ld, %s\n", stage_.c_str(), static_cast<long>(progress.done),
               static_cast<long>(progress.total), timing(progress).c_str());
}

}  // namespace opensora::cli
