// A transformer's blocks of one kind, whose weights may come to the device as they are used.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/weight_stream.h"
#include "core/weights.h"
#include "opensora/config.h"

namespace opensora::diffusion {

// `for (const Block& block : list)`: each block has its weights until the next is asked for.
template <typename Block>
class BlockList {
 public:
  BlockList(const Weights& weights, int64_t count, const MMDiTConfig& config) : stream_(weights.stream()) {
    if (stream_) first_ = stream_->groups();
    blocks_.reserve(count);
    for (int64_t i = 0; i < count; ++i) blocks_.emplace_back(weights[i].as_block(), config);
  }

  class Iterator {
   public:
    Iterator(const BlockList& list, size_t index) : list_(&list), index_(index) {}
    const Block& operator*() const { return (*list_)[index_]; }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return index_ != other.index_; }

   private:
    const BlockList* list_;
    size_t index_;
  };
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, blocks_.size()}; }
  size_t size() const { return blocks_.size(); }
  // Weights are not there all the time.
  bool wait_for_weights() const { return stream_ != nullptr; }

  const Block& operator[](size_t index) const {
    if (stream_) stream_->use(first_ + static_cast<int64_t>(index));
    return blocks_[index];
  }

 private:
  std::shared_ptr<WeightStream> stream_;
  int64_t first_ = 0;  // group of the first block
  std::vector<Block> blocks_;
};

}  // namespace opensora::diffusion
