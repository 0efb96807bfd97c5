// A stage of a run: timed, logged, and with errors that say which stage it was.
#pragma once

#include <ATen/ATen.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/trace.h"
#include "opensora/generate.h"
#include "opensora/stop.h"

namespace opensora::pipeline {

// Rethrows what is being handled: as OutOfMemoryError with the stage and the flags that help there, if memory ran out;
// as it is otherwise. Call in a catch block.
[[noreturn]] void rethrow_with_stage(const std::string& stage, at::Device device);

class StageClock {
 public:
  // `label`, if any, stands in front of log lines. `look` is called while nothing happens, and may throw to stop the
  // run as `progress` may.
  StageClock(at::Device device, ProgressCallback progress, std::string label = {}, std::function<void()> look = {})
      : device_(device), progress_(std::move(progress)), label_(std::move(label)), look_(std::move(look)) {}

  // Runs `work` as the stage `name`; gives cached device memory back when it is over.
  template <typename Work>
  auto run(const std::string& name, Work&& work) {
    const auto start = begin(name);
    const TraceSpan span(name);
    try {
      if constexpr (std::is_void_v<std::invoke_result_t<Work>>) {
        std::forward<Work>(work)();
        end(name, start);
      } else {
        auto result = std::forward<Work>(work)();
        end(name, start);
        return result;
      }
    } catch (...) {
      lost_seconds_ += seconds_since(start);
      running_since_.reset();
      rethrow_with_stage(name, device_);
    }
  }

  void report(const Progress& progress) const {
    if (progress_) progress_(progress);
  }
  // For waits in which nothing is to report: throws what ends the run.
  void look() const {
    throw_if_stopped();
    if (look_) look_();
  }
  // A stage that ran elsewhere, for several at once: what of it counts here.
  void add(const std::string& name, double seconds) { seconds_.emplace_back(name, seconds); }
  const std::vector<std::pair<std::string, double>>& seconds() const { return seconds_; }
  // Of all stages so far, those that failed too, and the one that is running.
  double elapsed() const;
  // Of the one that is running; 0: none is.
  double elapsed_in_stage() const;

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin(const std::string& name);
  void end(const std::string& name, Clock::time_point start);
  static double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  at::Device device_;
  ProgressCallback progress_;
  std::string label_;
  std::function<void()> look_;
  double lost_seconds_ = 0;  // in stages that failed: memory ran out, and they were tried again
  std::optional<Clock::time_point> running_since_;
  std::vector<std::pair<std::string, double>> seconds_;
};

}  // namespace opensora::pipeline
