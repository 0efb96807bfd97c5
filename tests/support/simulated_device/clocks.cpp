#include "support/simulated_device/clocks.h"

#include <algorithm>

namespace opensora::test::simulated {

void Clock::join(const Clock& other) {
  if (other.times_.size() > times_.size()) times_.resize(other.times_.size());
  for (size_t i = 0; i < other.times_.size(); ++i) times_[i] = std::max(times_[i], other.times_[i]);
}

int64_t Clock::advance(int64_t stream) {
  const auto index = static_cast<size_t>(stream);
  if (index >= times_.size()) times_.resize(index + 1);
  return ++times_[index];
}

bool Clock::knows(int64_t stream, int64_t time) const {
  const auto index = static_cast<size_t>(stream);
  return index < times_.size() && times_[index] >= time;
}

void Range::cut(const Range& other) {
  if (!meets(other)) return;
  if (other.begin <= begin) {
    begin = other.end;
  } else if (other.end >= end) {
    end = other.begin;
  }
}

const Use* Uses::unordered(const Clock& known, bool writes, const Range& range) const {
  const auto found = std::find_if(uses_.begin(), uses_.end(), [&](const Use& use) {
    return (writes || use.writes) && use.range.meets(range) && !known.knows(use.stream, use.time);
  });
  return found == uses_.end() ? nullptr : &*found;
}

// Whoever knows of a write knows of what was before it.
void Uses::add(const Use& use) {
  for (Use& former : uses_) {
    if (use.writes || (!former.writes && former.stream == use.stream)) former.range.cut(use.range);
  }
  std::erase_if(uses_, [](const Use& former) { return former.range.is_empty(); });
  uses_.push_back(use);
}

void Uses::forget(const Clock& done) {
  std::erase_if(uses_, [&](const Use& use) { return done.knows(use.stream, use.time); });
}

}  // namespace opensora::test::simulated
