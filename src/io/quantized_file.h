// Writing a model's tensors with its large matrices in 8 bits.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/weights.h"

namespace opensora::io {

// Whether a transformer's tensor belongs to a modulation.
bool is_modulation(std::string_view name);

// Of "int8" and "fp8" (e4m3), as people name what to quantise to; nullopt for other words.
std::optional<QuantizedFormat> quantized_format(std::string_view word);

struct Quantization {
  QuantizedFormat format = QuantizedFormat::kInt8;
  int64_t rotation = 0;
};

struct QuantizeOptions {
  QuantizedFormat format = QuantizedFormat::kInt8;  // or kFp8E4M3
  bool rotates = false;                             // by the largest group up to 256 that divides a matrix's inputs
  bool keeps_modulations = false;
};

// What becomes of a tensor; nullopt: it stays as it is. Of the transformers the matrices of the blocks are quantised,
// of T5 those of its encoder. Norms, embeddings, biases, and what leads into the blocks and out of them stay. A
// transformer's modulations hold 27 % of its weights: they become int8 whatever the format is, as their errors go
// through all that a block does.
std::optional<Quantization> quantization_of(const MetaSource::Entry& tensor, const QuantizeOptions& options);

// `read` gives elements [begin, end) of a tensor, flat and of any floating-point dtype.
using ReadElements = std::function<at::Tensor(size_t index, int64_t begin, int64_t end)>;
// The relative error of a matrix: the norm of the difference over that of the matrix. Called when it has been written.
using OnQuantized = std::function<void(size_t index, const Quantization& quantization, double error)>;

// Writes safetensors as quantized_layout() reads them, a few million numbers at a time: the file may be larger than
// memory. Those that stay are written in their entries' dtypes. ComfyUI's notes stand beside matrices of int8, which it
// reads; fp8 has LightX2V's layout, which has none. Throws OutputError as save_safetensors() does, CheckpointError for
// numbers that are not finite.
void write_quantized(const std::filesystem::path& path, const std::vector<MetaSource::Entry>& tensors,
                     const QuantizeOptions& options, const ReadElements& read,
                     const std::map<std::string, std::string>& metadata, bool overwrite,
                     const OnQuantized& on_quantized = {});

}  // namespace opensora::io
