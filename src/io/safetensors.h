// Reading safetensors files: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor_file.h"

namespace opensora::io {

class MappedFile;

// Names of dtypes in a header ("BF16") and ATen's; nullopt where the other side has none that we support:
// F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I8, U8, I16, I32, I64, BOOL.
std::optional<at::ScalarType> dtype_from_safetensors(std::string_view name);
std::optional<std::string_view> dtype_to_safetensors(at::ScalarType dtype);

// One file, mapped read-only. Opening reads and checks the header and touches no tensor's data. Copies share the
// mapping.
class SafetensorsFile final : public TensorFile {
 public:
  // Throws CheckpointError that names the file and the tensor: not there, too short, a header that is not JSON or not
  // of this format, a dtype that we do not support, a shape that does not agree with its bytes, bytes outside the file,
  // tensors that overlap or leave bytes uncovered.
  explicit SafetensorsFile(std::filesystem::path path);

  const std::filesystem::path& path() const override { return path_; }
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  // The header's "__metadata__".
  const std::map<std::string, std::string>& metadata() const override { return metadata_; }
  at::Tensor tensor(const std::string& name) const override;

 private:
  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> mapping_;
  uint64_t data_offset_ = 0;  // bytes from the start of the file to the data
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace opensora::io
