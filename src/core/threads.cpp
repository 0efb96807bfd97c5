#include "core/threads.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <future>
#include <system_error>
#include <thread>
#include <vector>

#include "opensora/error.h"

namespace opensora {
namespace {

// All at the same time, as they will be.
void check_that_threads_start(int count) {
  std::promise<void> over;
  const std::shared_future<void> end = over.get_future().share();
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  int started = 0;
  try {
    for (; started < count; ++started) threads.emplace_back([end] { end.wait(); });
  } catch (const std::system_error&) {
  }
  over.set_value();
  for (std::thread& thread : threads) thread.join();
  if (started == count) return;
  throw OutOfMemoryError(
      fmt::format("out of memory: the system lets {} of {} threads start; give fewer --threads or raise the limit "
                  "(ulimit -u, ulimit -v)",
                  started + 1, count + 1));
}

}  // namespace

void use_threads(int count) {
  if (count > 0) at::set_num_threads(count);
  const int threads = at::get_num_threads();
  check_that_threads_start(threads - 1);
  at::parallel_for(0, threads, 1, [](int64_t /*begin*/, int64_t /*end*/) {});
}

}  // namespace opensora
