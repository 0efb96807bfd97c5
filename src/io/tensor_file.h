// A file of named tensors, in whatever format.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/quantized.h"

namespace opensora::io {

constexpr size_t kMostDimensions = 64;  // of a tensor; LibTorch's own limit

// What is wrong with a file of tensors: what() is one line without the file's name, which its reader puts in front.
struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct TensorInfo {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes from the start of the format's data
  uint64_t end = 0;    // one past the last byte
  // Rows of llama.cpp's blocks: `dtype` is Byte, and `shape` in elements.
  std::optional<QuantizedFormat> blocks = {};

  uint64_t bytes() const { return end - begin; }
};

class TensorFile {
 public:
  virtual ~TensorFile() = default;

  virtual const std::filesystem::path& path() const = 0;
  virtual const std::map<std::string, TensorInfo>& tensors() const = 0;
  // Whatever the file's writer noted down; empty where the format has no place for it.
  virtual const std::map<std::string, std::string>& metadata() const = 0;

  // The tensor on the CPU: a view of the file that keeps the mapping alive, so it may outlive this object. Its memory
  // is read-only: writing to it in place ends the process. A tensor that lies misaligned for its dtype is copied. Of
  // one in blocks it is the bytes [rows, bytes of a row], or [1, bytes] where its rows are not whole blocks. Throws
  // CheckpointError if there is none of that name.
  virtual at::Tensor tensor(const std::string& name) const = 0;
};

// Opens a safetensors file or, going by its first bytes or its name, one of GGUF or of PyTorch. Reads no tensor's data.
// Throws CheckpointError: see SafetensorsFile, GgufFile and PyTorchFile.
std::shared_ptr<const TensorFile> open_tensor_file(const std::filesystem::path& path);

// True for the names that PyTorch's own files go by: .bin, .pt, .pth, .ckpt.
bool has_pytorch_name(const std::filesystem::path& path);

}  // namespace opensora::io
