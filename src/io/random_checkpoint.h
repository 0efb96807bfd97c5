// Weights of random numbers, as files and in memory: for measuring, where what the model makes does not matter.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/weights.h"

namespace opensora::io {

// Numbers for a tensor, in pieces of at most `kRandomPiece` elements: uniform, scaled so that a layer keeps the size of
// its input (by the number of inputs of an output); biases near 0, scales of norms near 1. The same for the same seed,
// name and shape on every machine.
constexpr int64_t kRandomPiece = int64_t{1} << 22;
at::Tensor random_piece(const MetaSource::Entry& tensor, uint64_t seed, int64_t begin, int64_t end);  // [end - begin]

// Writes a safetensors file with these tensors in `dtype`, piece by piece: it may be larger than memory. Throws
// OutputError as save_safetensors() does.
void write_random_checkpoint(const std::filesystem::path& path, const std::vector<MetaSource::Entry>& tensors,
                             at::ScalarType dtype, uint64_t seed, bool overwrite = false);

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
