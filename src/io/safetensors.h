// Reading and writing safetensors files: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/output_file.h"
#include "core/weights.h"
#include "io/tensor_file.h"

namespace opensora::io {

// Names of dtypes in a header ("BF16") and ATen's; nullopt where the other side has none that we support:
// F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I8, U8, I16, I32, I64, BOOL.
std::optional<at::ScalarType> dtype_from_safetensors(std::string_view name);
std::optional<std::string_view> dtype_to_safetensors(at::ScalarType dtype);
// The name in a header, or ATen's where there is none: for messages, also about files of other formats.
std::string dtype_text(at::ScalarType dtype);

class SafetensorsFile final : public TensorFile {
 public:
  // Throws CheckpointError that names the file and the tensor: not there, too short, a header that is not JSON or not
  // of this format, a dtype that we do not support, a shape that does not agree with its bytes, bytes outside the file,
  // tensors that overlap or leave bytes uncovered.
  explicit SafetensorsFile(std::filesystem::path path);

  at::Tensor tensor(const std::string& name) const override;

 private:
  uint64_t data_offset_ = 0;  // bytes from the start of the file to the data
};

// Writes the tensors (any device, any strides; dtypes as in safetensors.h) to `path`. The file appears under its name
// only when it is complete; what fails leaves nothing behind and an older file as it was.
// Throws OutputError that names the file: it exists and not `overwrite`, its folder is missing, it cannot be written,
// the disk is full. Throws std::invalid_argument for an undefined tensor, a dtype that the format lacks, a name given
// twice or "__metadata__".
void save_safetensors(const std::filesystem::path& path, const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata = {}, bool overwrite = false);

// The same without the name: for commit_together(), while what it returns lives.
std::unique_ptr<OutputFile> stage_safetensors(const std::filesystem::path& path,
                                              const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                                              const std::map<std::string, std::string>& metadata, bool overwrite);

// Takes a piece of a tensor's data, in the entry's dtype; the pieces follow each other.
using WritePiece = std::function<void(const at::Tensor& piece)>;
using MakeTensor = std::function<void(size_t index, const WritePiece& write)>;

// The same for tensors that are made as they are written, in the order of `tensors`, which the caller chooses so that
// each lies aligned: files may be larger than memory.
void write_safetensors(const std::filesystem::path& path, const std::vector<MetaSource::Entry>& tensors,
                       const MakeTensor& make, const std::map<std::string, std::string>& metadata = {},
                       bool overwrite = false);

}  // namespace opensora::io
