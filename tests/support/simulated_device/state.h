// What the device knows: streams and their clocks, the host's, findings and figures. All of it under one lock.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceType.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "support/simulated_device/clocks.h"
#include "support/simulated_device/simulated_device.h"

namespace opensora::test::simulated {

inline constexpr auto kDeviceType = c10::DeviceType::PrivateUse1;
inline constexpr int64_t kDefaultStream = 0;

struct State {
  // The host's threads take it for the length of an operator: two of them never run at once.
  std::recursive_mutex mutex;
  Options options;
  double memory_fraction = 1;  // of the memory; LibTorch's setting per_process_memory_fraction
  Counters counters;
  int64_t starts = 0;
  c10::CachingDeviceAllocator::DeviceStats stats;
  int64_t pinned_bytes = 0;
  std::vector<std::string> races;
  bool race_is_untold = false;  // one was found where nothing can be thrown
  std::vector<Clock> streams;   // what each stream knows to be done before its next operator
  Clock hosts;                  // what any thread of the host has waited for
};

State& state();

// Of this thread.
int64_t& current_stream();
Clock& host_clock();

// As CUDA's: one of 32 that are handed out in turn.
int64_t stream_from_pool();
Clock& stream_clock(int64_t stream);

// Work is put into `stream`, whose clock then knows what this thread of the host knows. Returns the work's time.
int64_t launch(int64_t stream);

// This thread of the host waits for what `clock` knows.
void host_waits_for(const Clock& clock);
int64_t synchronizations_of_thread();

// A wait that a test can have left out. Returns whether it has not.
bool is_kept_wait();

// Notes that `by` (an operator in a stream, or the host) does something ("reads", "writes", "frees") to memory although
// nothing orders it after `former`. Where that cannot be thrown, the next operator throws.
void found_race(const std::string& by, const char* does, const Use& former, bool may_throw);
void throw_untold_race();

}  // namespace opensora::test::simulated
