// GGUF files for tests, and rows of llama.cpp's blocks with the numbers that they stand for.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/quantized.h"

namespace opensora::test {

template <typename T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}
inline std::string gguf_text(const std::string& text) { return raw<uint64_t>(text.size()) + text; }

// Values of the metadata, each behind the number of its type.
inline std::string gguf_value(const std::string& text) { return raw<uint32_t>(8) + gguf_text(text); }
inline std::string gguf_value(uint32_t value) { return raw<uint32_t>(4) + raw(value); }
inline std::string gguf_value(float value) { return raw<uint32_t>(6) + raw(value); }
inline std::string gguf_value(const std::vector<int32_t>& values) {
  std::string text = raw<uint32_t>(9) + raw<uint32_t>(5) + raw<uint64_t>(values.size());
  for (const int32_t value : values) text += raw(value);
  return text;
}

struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;  // as in LibTorch, the innermost dimension last
  uint32_t type = 0;           // ggml's number
  std::string data;
  std::optional<uint64_t> offset = {};  // default: behind the tensor before it
};

struct GgufContent {
  uint32_t version = 3;
  uint64_t alignment = 32;
  std::vector<std::pair<std::string, std::string>> values = {};  // keys, and what gguf_value() makes
  std::vector<GgufTensor> tensors = {};

  std::string bytes() const {
    std::string list, data;
    for (const GgufTensor& tensor : tensors) {
      data.resize((data.size() + alignment - 1) / alignment * alignment, '\0');
      list += gguf_text(tensor.name) + raw(static_cast<uint32_t>(tensor.shape.size()));
      for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) list += raw<int64_t>(*size);
      list += raw(tensor.type) + raw<uint64_t>(tensor.offset.value_or(data.size()));
      data += tensor.data;
    }
    std::string head = "GGUF" + raw(version) + raw<uint64_t>(tensors.size()) + raw<uint64_t>(values.size());
    for (const auto& [key, value] : values) head += gguf_text(key) + value;
    head += list;
    head.resize((head.size() + alignment - 1) / alignment * alignment, '\0');
    return head + data;
  }
  void write(const std::filesystem::path& file) const { std::ofstream(file, std::ios::binary) << bytes(); }
};

// All formats of blocks.
inline const std::vector<QuantizedFormat> kBlockFormats = {QuantizedFormat::kQ8_0, QuantizedFormat::kQ4_0,
                                                           QuantizedFormat::kQ4_K, QuantizedFormat::kQ5_K,
                                                           QuantizedFormat::kQ6_K};

struct Blocks {
  QuantizedTensor matrix;
  at::Tensor numbers;  // float32: what the matrix stands for, from the numbers that were packed into the blocks
};
// `weight` [rows, columns], whose columns are whole blocks: near it, by simpler rules than llama.cpp's.
Blocks to_blocks(const at::Tensor& weight, QuantizedFormat format);

// As GGUF has them: F32, F16 or BF16, and a matrix in blocks.
GgufTensor gguf_tensor(const std::string& name, const at::Tensor& tensor);
GgufTensor gguf_tensor(const std::string& name, const Blocks& blocks);

}  // namespace opensora::test
