#include "io/tensor_file.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>
#include <string>

#include "core/json_text.h"
#include "core/weights.h"
#include "io/gguf_file.h"
#include "io/mapped_file.h"
#include "io/pytorch_file.h"
#include "io/safetensors.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

// A safetensors file starts with its header's length in 64 bits, then JSON. As a length, the four bytes that zip
// archives and GGUF files start with would mean a header of 67 MB and of 1.2 GB.
std::string first_bytes(const std::filesystem::path& path) {
  std::error_code unreadable;
  std::string start(4, '\0');
  if (!std::filesystem::is_regular_file(path, unreadable)) return start;  // opening a pipe would wait for its writer
  std::ifstream(path, std::ios::binary).read(start.data(), static_cast<std::streamsize>(start.size()));
  return start;
}

}  // namespace

uint64_t checked_bytes(const std::vector<int64_t>& shape, uint64_t element_bytes) {
  auto bytes = static_cast<int64_t>(element_bytes);
  bool empty = false;
  for (const int64_t size : shape) {
    empty = empty || size == 0;
    if (size < 0 || __builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes)) {
      throw FormatError("shape " + shape_string(shape) + " is too large");
    }
  }
  return empty ? 0 : static_cast<uint64_t>(bytes);
}

std::vector<const PlacedTensor*> in_order(const std::map<std::string, TensorInfo>& tensors) {
  std::vector<const PlacedTensor*> ordered;
  ordered.reserve(tensors.size());
  for (const PlacedTensor& tensor : tensors) ordered.push_back(&tensor);
  std::sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  return ordered;
}

TensorFile::TensorFile(std::filesystem::path path)
    : path_(std::move(path)), mapping_(std::make_shared<const MappedFile>(path_)) {}

const TensorInfo& TensorFile::info(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw CheckpointError(path_.string() + ": holds no tensor " + json_excerpt(name));
  return found->second;
}

at::Tensor TensorFile::mapped_tensor(uint64_t begin, at::IntArrayRef shape, at::ScalarType dtype,
                                     at::OptionalIntArrayRef strides) const {
  const std::byte* data = mapping_->data() + begin;
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(dtype) != 0) {
    at::Tensor copy = strides ? at::empty_strided(shape, *strides, dtype) : at::empty(shape, dtype);
    if (copy.numel() > 0) std::memcpy(copy.mutable_data_ptr(), data, copy.storage().nbytes());
    return copy;
  }
  // ATen has no tensors of constant memory. The deleter keeps the mapping alive.
  return at::for_blob(const_cast<std::byte*>(data), shape)
      .strides(strides)
      .deleter([keep = mapping_](void*) {})
      .options(at::TensorOptions(dtype))
      .make_tensor();
}

bool has_pytorch_name(const std::filesystem::path& path) {
  static const std::set<std::string> extensions = {".bin", ".pt", ".pth", ".ckpt"};
  return extensions.contains(path.extension().string());
}

std::shared_ptr<const TensorFile> open_tensor_file(const std::filesystem::path& path) {
  const std::string start = first_bytes(path);
  if (start == "GGUF" || path.extension() == ".gguf") return std::make_shared<const GgufFile>(path);
  if (has_pytorch_name(path) || start == "PK\x03\x04") return std::make_shared<const PyTorchFile>(path);
  return std::make_shared<const SafetensorsFile>(path);
}

}  // namespace opensora::io
