// The threads of a GPU that share a row, played by threads of the CPU: for the functors of nn/fused_functors.h.
#pragma once

#include <algorithm>
#include <barrier>
#include <bit>
#include <cstdint>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

namespace opensora::test {

// What the lanes of a row share.
class SharedRow {
 public:
  explicit SharedRow(int lanes) : values_(lanes), barrier_(lanes) {}

  int lanes() const { return static_cast<int>(values_.size()); }

  float sum(int lane, float value) {
    values_[lane] = value;
    barrier_.arrive_and_wait();
    const float total = std::accumulate(values_.begin(), values_.end(), 0.0F);
    barrier_.arrive_and_wait();  // all have read
    return total;
  }

  uint32_t max(int lane, uint32_t value) {
    values_[lane] = std::bit_cast<float>(value);
    barrier_.arrive_and_wait();
    for (const float other : values_) value = std::max(value, std::bit_cast<uint32_t>(other));
    barrier_.arrive_and_wait();
    return value;
  }

 private:
  std::vector<float> values_;
  std::barrier<> barrier_;
};

// One of them, as functors take it.
struct SimulatedLane {
  SharedRow* row;
  int lane;

  int first() const { return lane; }
  int step() const { return row->lanes(); }
  float sum(float value) const { return row->sum(lane, value); }
  uint32_t max(uint32_t value) const { return row->max(lane, value); }
};

// Runs `work` in `lanes` threads, each with its own lane; returns when all are done.
inline void run_lanes(int lanes, const std::function<void(const SimulatedLane&)>& work) {
  SharedRow row(lanes);
  std::vector<std::jthread> threads;
  threads.reserve(lanes);
  for (int lane = 0; lane < lanes; ++lane) {
    threads.emplace_back([&, lane] { work({&row, lane}); });
  }
}

}  // namespace opensora::test
