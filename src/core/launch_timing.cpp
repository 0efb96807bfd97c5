#include "core/launch_timing.h"

#include <ATen/record_function.h>

#include <chrono>
#include <memory>
#include <optional>

#include "core/device.h"
#include "core/stopwatch.h"

namespace opensora {
namespace {

using Clock = std::chrono::steady_clock;

// Counts LibTorch's operators on this thread while it lives, and takes the time of the first.
class OperatorCount {
 public:
  OperatorCount()
      : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(count).scopes({at::RecordScope::FUNCTION}))) {
    current() = this;
  }
  ~OperatorCount() {
    current() = nullptr;
    at::removeCallback(handle_);
  }
  OperatorCount(const OperatorCount&) = delete;
  OperatorCount& operator=(const OperatorCount&) = delete;

  int64_t operators() const { return operators_; }
  // Of launching all operators, by the first of them, or by all where there are no more.
  double host_seconds(double all_seconds) const {
    return first_seconds_ ? launching_seconds(kFirst, *first_seconds_, operators_) : all_seconds;
  }

 private:
  static constexpr int64_t kFirst = 256;  // a device's queue holds their launches

  static std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& /*function*/) {
    OperatorCount* here = current();
    if (here != nullptr && ++here->operators_ == kFirst + 1) here->first_seconds_ = seconds_since(here->start_);
    return nullptr;
  }
  // LibTorch's callbacks are plain functions.
  static OperatorCount*& current() {
    thread_local OperatorCount* count = nullptr;
    return count;
  }

  at::CallbackHandle handle_;
  Clock::time_point start_ = Clock::now();
  int64_t operators_ = 0;
  std::optional<double> first_seconds_;
};

}  // namespace

LaunchTiming time_launching(at::Device device, const std::function<void()>& work) {
  DeviceEvent before(device), after(device);  // of this stream alone: another may have work that goes on
  before.record_current();
  before.wait();
  const OperatorCount count;
  const auto start = Clock::now();
  work();
  const double host = seconds_since(start);
  after.record_current();
  after.wait();
  return {.host = count.host_seconds(host), .device = seconds_since(start), .operators = count.operators()};
}

double launching_seconds(int64_t some, double seconds, int64_t all) {
  return seconds * static_cast<double>(all) / static_cast<double>(some);
}

bool is_bound_by_launching(const LaunchTiming& timing) { return timing.device < 2 * timing.host; }

}  // namespace opensora
