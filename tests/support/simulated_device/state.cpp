#include "support/simulated_device/state.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <cstdio>
#include <utility>

namespace opensora::test::simulated {
namespace {

// Of this thread, since the device's last start.
int64_t& thread_synchronizations() {
  thread_local int64_t start = 0, count = 0;
  if (std::exchange(start, state().starts) != state().starts) count = 0;
  return count;
}

}  // namespace

State& state() {
  static auto* const all = new State;  // tensors may outlive static objects
  return *all;
}

int64_t& current_stream() {
  thread_local int64_t stream = kDefaultStream;
  return stream;
}

Clock& host_clock() {
  thread_local Clock clock;
  return clock;
}

int64_t stream_from_pool() {
  constexpr int64_t kPool = 32;
  static int64_t next = 0;
  return 1 + next++ % kPool;
}

Clock& stream_clock(int64_t stream) {
  const auto index = static_cast<size_t>(stream);
  if (index >= state().streams.size()) state().streams.resize(index + 1);
  return state().streams[index];
}

int64_t launch(int64_t stream) {
  Clock& clock = stream_clock(stream);
  clock.join(host_clock());
  return clock.advance(stream);
}

void host_waits_for(const Clock& clock) {
  ++state().counters.synchronizations;
  ++thread_synchronizations();
  host_clock().join(clock);
  state().hosts.join(clock);
}

int64_t synchronizations_of_thread() { return thread_synchronizations(); }

bool is_kept_wait() { return ++state().counters.waits != state().options.ignored_wait; }

void found_race(const std::string& by, const char* does, const Use& former, bool may_throw) {
  const std::string text = fmt::format("race: {} {} memory that {} {} in stream {}, and nothing puts them in order", by,
                                       does, former.by, former.writes ? "writes" : "reads", former.stream);
  state().races.push_back(text);
  if (!state().options.race_throws) return;
  std::fprintf(stderr, "%s\n", text.c_str());
  TORCH_CHECK(!may_throw, text);
  state().race_is_untold = true;
}

void throw_untold_race() {
  if (!state().race_is_untold) return;
  state().race_is_untold = false;
  TORCH_CHECK(false, state().races.back());
}

}  // namespace opensora::test::simulated
