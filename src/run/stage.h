// The stages of a run are timed and logged, and their errors say in which stage they arose.
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

#include "core/stopwatch.h"
#include "core/trace.h"
#include "opensora/generate.h"
#include "opensora/process.h"

namespace opensora::run {

// Rethrows the current exception. If memory ran out, it becomes an OutOfMemoryError that names the stage and the flags
// that help there; a library's other errors name the stage, too, and those of CUDA's become DeviceErrors. Call it in a
// catch block.
[[noreturn]] void rethrow_with_stage(const std::string& stage, at::Device device);

// "`vae_tiling`, a smaller size or fewer frames": what helps where memory runs out in a stage.
std::string flags_that_help(const std::string& stage, at::Device device);

// Thrown to abandon work half-way when there is nothing left to tell: the run is over, and why is known already.
struct Cancelled {};

// Measures the stages of one job, or of a tool.
class StageClock {
 public:
  // `label` is put in front of log lines. `look` is called during waits; like `progress`, it may throw to stop the run.
  StageClock(at::Device device, ProgressCallback progress, std::string label = {}, std::function<void()> look = {})
      : device_(device), progress_(std::move(progress)), label_(std::move(label)), look_(std::move(look)) {}

  // From now on another thread works on the device at the same time: cached memory stays with the process, as releasing
  // it would wait for that thread's work.
  void share_device() { shares_device_ = true; }

  // Runs `work` as the stage `name`, and then releases cached device memory.
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
  // For waits without anything to report: throws if the run is to end.
  void look() const {
    throw_if_stopped();
    if (look_) look_();
  }
  // Adds this job's share of a stage that ran elsewhere for several jobs at once.
  void add(const std::string& name, double seconds) { seconds_.emplace_back(name, seconds); }
  const std::vector<std::pair<std::string, double>>& seconds() const { return seconds_; }
  // Seconds of all stages so far, including failed ones and the one that is running.
  double elapsed() const;
  // Seconds of the stage that is running; 0 if none is.
  double elapsed_in_stage() const;

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin(const std::string& name);
  void end(const std::string& name, Clock::time_point start);

  at::Device device_;
  ProgressCallback progress_;
  std::string label_;
  std::function<void()> look_;
  bool shares_device_ = false;
  double lost_seconds_ = 0;  // in stages that failed: memory ran out, and they were tried again
  std::optional<Clock::time_point> running_since_;
  std::vector<std::pair<std::string, double>> seconds_;
};

}  // namespace opensora::run
