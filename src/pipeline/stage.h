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

namespace opensora::pipeline {

// Rethrows what is being handled: as OutOfMemoryError with the stage and the flags that help there, if memory ran out;
// as it is otherwise. Call in a catch block.
[[noreturn]] void rethrow_with_stage(const std::string& stage, at::Device device);

class StageClock {
 public:
  // `label`, if any, stands in front of log lines.
  StageClock(at::Device device, ProgressCallback progress, std::string label = {})
      : device_(device), progress_(std::move(progress)), label_(std::move(label)) {}

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
      rethrow_with_stage(name, device_);
    }
  }

  void report(const Progress& progress) const {
    if (progress_) progress_(progress);
  }
  // Reports no progress (an empty stage), for work of unknown length: throws what report() throws where it is time to
  // stop.
  void poll() const { report({}); }
  // A stage that ran elsewhere, for several at once: what of it counts here.
  void add(const std::string& name, double seconds) { seconds_.emplace_back(name, seconds); }
  const std::vector<std::pair<std::string, double>>& seconds() const { return seconds_; }
  // Of all stages so far and the one that is running.
  double elapsed() const;
  // Of the one that is running; 0: none is.
  double elapsed_in_stage() const;

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin(const std::string& name);
  void end(const std::string& name, Clock::time_point start);

  at::Device device_;
  ProgressCallback progress_;
  std::string label_;
  std::optional<Clock::time_point> running_since_;
  std::vector<std::pair<std::string, double>> seconds_;
};

}  // namespace opensora::pipeline
