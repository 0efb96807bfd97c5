// Weights out of nothing: for measuring where no checkpoint is at hand.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/weights.h"

namespace opensora::io {

// Answers every request with a tensor of the expected shape, in memory, with numbers as write_random_checkpoint() would
// write them.
class RandomSource final : public WeightSource {
 public:
  explicit RandomSource(at::ScalarType dtype = at::kBFloat16) : dtype_(dtype) {}

  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef expected_shape) const override;
  bool contains(const std::string&) const override { return true; }
  std::vector<std::string> names() const override { return {}; }
  std::string description() const override { return "random weights"; }

 private:
  at::ScalarType dtype_;
};

}  // namespace opensora::io
