// How work grows with its input, on a machine that is busy with other work: by the processor time of this thread, and
// never against a limit of seconds.
#pragma once

#include <algorithm>
#include <cstddef>
#include <ctime>
#include <limits>

namespace opensora::test {

template <typename Work>
double cpu_seconds(const Work& work) {
  const auto now = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double start = now();
  work();
  return now() - start;
}

// work(n) and work(16 * n): by how many times as much the second takes. About 16 where work grows as its input does,
// 256 where with its square: less than kLinear is the first. The least of three each, as caches are shared with others.
constexpr double kLinear = 64;
template <typename Work>
double growth(size_t n, const Work& work) {
  double small = std::numeric_limits<double>::infinity(), large = small;
  for (int i = 0; i < 3; ++i) {
    small = std::min(small, cpu_seconds([&] { work(n); }));
    large = std::min(large, cpu_seconds([&] { work(16 * n); }));
  }
  return large / small;
}

}  // namespace opensora::test
