// Which bytes of a ring hold what.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

namespace opensora {

// Places one after the other in a ring of bytes, each in one piece: what does not fit before the ring's end begins at
// its start. The oldest make way for the newest. It only reckons: the memory is its user's.
class ByteRing {
 public:
  explicit ByteRing(int64_t size = 0) : size_(size) {}
  int64_t size() const { return size_; }

  // The turn that was placed last of those that lie where the next `bytes` will; -1: none does.
  int64_t newest_in_the_way(int64_t bytes) const;
  // Takes a place for `bytes`, at most size(), and gives its first byte. The turns that lay there are forgotten, and
  // appended to `overwritten`.
  int64_t take(int64_t turn, int64_t bytes, std::vector<int64_t>& overwritten);
  // All turns that are remembered, from the oldest on; they are forgotten.
  std::vector<int64_t> clear();

 private:
  struct Taken {
    int64_t turn, begin;
  };
  int64_t begin_of_next(int64_t bytes) const;

  int64_t size_;
  // Addresses that grow for ever: a byte's place in the ring is its address modulo the size.
  int64_t end_ = 0;
  std::deque<Taken> taken_;
};

}  // namespace opensora
