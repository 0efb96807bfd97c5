#include "core/threads.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <future>
#include <system_error>
#include <thread>
#include <vector>

#include "core/signal_stack.h"
#include "opensora/error.h"

namespace opensora {
namespace {

// How many of `count` threads the system lets start at the same time.
int threads_that_start(int count) {
  std::promise<void> over;
  const std::shared_future<void> end = over.get_future().share();
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  try {
    while (static_cast<int>(threads.size()) < count) threads.emplace_back([end] { end.wait(); });
  } catch (const std::system_error&) {
  }
  over.set_value();
  for (std::thread& thread : threads) thread.join();
  return static_cast<int>(threads.size());
}

}  // namespace

void use_threads(int count) {
  const int threads = count > 0 ? count : at::get_num_threads();
  // Beside this thread: OpenMP's, and where a number is set as many of XNNPACK's, which set_num_threads() starts and
  // would wait for forever.
  const int needed = (count > 0 ? 2 : 1) * (threads - 1);
  if (const int started = threads_that_start(needed); started < needed) {
    throw OutOfMemoryError(
        fmt::format("out of memory: the system lets {} threads start, and computing with {} takes {}; give fewer "
                    "--threads or raise the limit (ulimit -u, ulimit -v)",
                    started + 1, threads, needed + 1));
  }
  if (count > 0) at::set_num_threads(count);
  prepare_team();
}

void prepare_team() {
  at::parallel_for(0, at::get_num_threads(), 1, [](int64_t /*begin*/, int64_t /*end*/) { use_signal_stack(); });
}

}  // namespace opensora
