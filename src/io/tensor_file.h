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
#include <utility>
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
  uint64_t begin = 0;  // bytes from the start of the file, of safetensors from that of its data
  uint64_t end = 0;    // one past the last byte
  // Rows of llama.cpp's blocks: `dtype` is Byte, and `shape` in elements.
  std::optional<QuantizedFormat> blocks = {};

  uint64_t bytes() const { return end - begin; }
};

// What a tensor of that shape takes, dense, in bytes. A size of 0 counts as 1 in the product, so that the strides of an
// empty tensor cannot overflow either. Throws FormatError where it is too large, or a size is negative.
uint64_t checked_bytes(const std::vector<int64_t>& shape, uint64_t element_bytes);

// By their places in the file.
using PlacedTensor = std::pair<const std::string, TensorInfo>;
std::vector<const PlacedTensor*> in_order(const std::map<std::string, TensorInfo>& tensors);

class MappedFile;

// One file, mapped read-only. A format's class reads and checks the list of tensors as it is opened, and touches no
// tensor's data. Copies share the mapping.
class TensorFile {
 public:
  virtual ~TensorFile() = default;

  const std::filesystem::path& path() const { return path_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  // Whatever the file's writer noted down; empty where the format has no place for it.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // The tensor on the CPU: a view of the file that keeps the mapping alive, so it may outlive this object. Its memory
  // is read-only: writing to it in place ends the process. A tensor that lies misaligned for its dtype is copied. Of
  // one in blocks it is the bytes [rows, bytes of a row], or [1, bytes] where its rows are not whole blocks. Throws
  // CheckpointError if there is none of that name.
  virtual at::Tensor tensor(const std::string& name) const = 0;

 protected:
  // Maps the file. Throws CheckpointError: see MappedFile.
  explicit TensorFile(std::filesystem::path path);
  TensorFile(const TensorFile&) = default;
  TensorFile& operator=(const TensorFile&) = default;

  // Of tensors(). Throws CheckpointError if there is none of that name.
  const TensorInfo& info(const std::string& name) const;
  // What tensor() gives of the bytes of the file from `begin` on. Without strides it is dense.
  at::Tensor mapped_tensor(uint64_t begin, at::IntArrayRef shape, at::ScalarType dtype,
                           at::OptionalIntArrayRef strides = {}) const;

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> mapping_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Opens a safetensors file or, going by its first bytes or its name, one of GGUF or of PyTorch. Reads no tensor's data.
// Throws CheckpointError: see SafetensorsFile, GgufFile and PyTorchFile.
std::shared_ptr<const TensorFile> open_tensor_file(const std::filesystem::path& path);

// True for the names that PyTorch's own files go by: .bin, .pt, .pth, .ckpt.
bool has_pytorch_name(const std::filesystem::path& path);

}  // namespace opensora::io
