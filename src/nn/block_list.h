// A model's blocks, which run one after the other.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/weight_stream.h"
#include "core/weights.h"

namespace opensora::nn {

// Blocks of one kind, whose weights may come to the device as they are used: each block has its own until the next is
// asked for.
template <typename Block>
class BlockList {
 public:
  // Binds `weights`[0], [1], …, each by Block(its scope, config).
  template <typename Config>
  BlockList(const Weights& weights, int64_t count, const Config& config) : stream_(weights.stream()) {
    if (stream_) first_ = stream_->groups();
    blocks_.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) blocks_.emplace_back(weights[i].begin_block(), config);
  }

  size_t size() const { return blocks_.size(); }
  // Weights are not there all the time.
  bool is_streamed() const { return stream_ != nullptr && !stream_->keeps_all(); }

  const Block& operator[](size_t index) const {
    if (stream_) stream_->use(first_ + static_cast<int64_t>(index));
    return blocks_[index];
  }

 private:
  std::shared_ptr<WeightStream> stream_;
  int64_t first_ = 0;  // group of the first block
  std::vector<Block> blocks_;
};

}  // namespace opensora::nn
