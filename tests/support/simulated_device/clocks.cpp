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

const Use* Uses::unordered(const Clock& known, bool writes) const {
  if (write_ && !known.knows(write_->stream, write_->time)) return &*write_;
  if (!writes) return nullptr;
  const auto found =
      std::find_if(reads_.begin(), reads_.end(), [&](const Use& read) { return !known.knows(read.stream, read.time); });
  return found == reads_.end() ? nullptr : &*found;
}

void Uses::add(const Use& use) {
  if (use.writes) {
    write_ = use;
    reads_.clear();
    return;
  }
  std::erase_if(reads_, [&](const Use& read) { return read.stream == use.stream; });
  reads_.push_back(use);
}

void Uses::forget(const Clock& done) {
  if (write_ && done.knows(write_->stream, write_->time)) write_.reset();
  std::erase_if(reads_, [&](const Use& read) { return done.knows(read.stream, read.time); });
}

}  // namespace opensora::test::simulated
