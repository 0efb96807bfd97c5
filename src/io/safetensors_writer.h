// Writing safetensors files.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/output_file.h"

namespace opensora::io {

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

struct TensorEntry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;

  uint64_t bytes() const;
};
// Takes a piece of a tensor's data, in the entry's dtype; the pieces follow each other.
using WritePiece = std::function<void(const at::Tensor& piece)>;
using MakeTensor = std::function<void(size_t index, const WritePiece& write)>;

// The same for tensors that are made as they are written, in the order of `tensors`, which the caller chooses so that
// each lies aligned: files may be larger than memory.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorEntry>& tensors,
                       const MakeTensor& make, const std::map<std::string, std::string>& metadata = {},
                       bool overwrite = false);

}  // namespace opensora::io
