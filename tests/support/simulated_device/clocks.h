// What is known to be done, as vector clocks, and the uses of a piece of memory that they put in order.
#pragma once

#include <cstdint>
#include <limits>
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

// Bytes of a piece of memory, counted from its begin.
struct Range {
  int64_t begin = 0, end = std::numeric_limits<int64_t>::max();

  bool is_empty() const { return begin >= end; }
  bool meets(const Range& other) const { return begin < other.end && other.begin < end; }
  // Takes `other` away, where one piece is left.
  void cut(const Range& other);
};

struct Use {
  int64_t stream = 0;
  int64_t time = 0;
  std::string_view by;  // an operator's name, which lives for ever
  bool writes = false;
  Range range = {};
};

// The last writes of the parts of a piece of memory, and the reads since, one a stream and part.
class Uses {
 public:
  // One that a new use of `range` may collide with: the new one knows of `known`. A read collides with a write, a write
  // with both.
  const Use* unordered(const Clock& known, bool writes, const Range& range = {}) const;
  void add(const Use& use);
  // Those that `done` knows are over for everybody.
  void forget(const Clock& done);

 private:
  std::vector<Use> uses_;
};

}  // namespace opensora::test::simulated
