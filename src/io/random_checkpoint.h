// Checkpoints of random numbers: for measuring, where what the model makes does not matter.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
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

}  // namespace opensora::io
