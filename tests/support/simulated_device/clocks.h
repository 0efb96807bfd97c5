// What is known to be done, as vector clocks, and the uses of a piece of memory that they put in order.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace opensora::test::simulated {

// How much of each stream's work is known to be done, in operators.
class Clock {
 public:
  void join(const Clock& other);
  // `stream` does one more operator. Returns how many it has done.
  int64_t advance(int64_t stream);
  bool knows(int64_t stream, int64_t time) const;

 private:
  std::vector<int64_t> times_;  // by stream
};

struct Use {
  int64_t stream = 0;
  int64_t time = 0;
  std::string_view by;  // an operator's name, which lives for ever
  bool writes = false;
};

// The last write of a piece of memory and the reads since, one a stream.
class Uses {
 public:
  // One that a new use may collide with: the new one knows of `known`. A read collides with a write, a write with both.
  const Use* unordered(const Clock& known, bool writes) const;
  void add(const Use& use);
  // Those that `done` knows are over for everybody.
  void forget(const Clock& done);

 private:
  std::optional<Use> write_;
  std::vector<Use> reads_;
};

}  // namespace opensora::test::simulated
