#include "core/byte_ring.h"

namespace opensora {

int64_t ByteRing::begin_of_next(int64_t bytes) const {
  const int64_t rest = size_ - end_ % size_;  // up to the end of the ring
  return bytes <= rest ? end_ : end_ + rest;
}

int64_t ByteRing::newest_in_the_way(int64_t bytes) const {
  const int64_t overwritten_end = begin_of_next(bytes) + bytes - size_;
  int64_t newest = -1;
  for (const Taken& taken : taken_) {
    if (taken.begin < overwritten_end) newest = taken.turn;
  }
  return newest;
}

int64_t ByteRing::take(int64_t turn, int64_t bytes, std::vector<int64_t>& overwritten) {
  const int64_t begin = begin_of_next(bytes);
  for (; !taken_.empty() && taken_.front().begin < begin + bytes - size_; taken_.pop_front()) {
    overwritten.push_back(taken_.front().turn);
  }
  taken_.push_back({turn, begin});
  end_ = begin + bytes;
  return begin % size_;
}

std::vector<int64_t> ByteRing::clear() {
  std::vector<int64_t> turns;
  turns.reserve(taken_.size());
  for (const Taken& taken : taken_) turns.push_back(taken.turn);
  taken_.clear();
  return turns;
}

}  // namespace opensora
