// Writing safetensors files.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace opensora::io {

// Writes the tensors (any device, any strides; dtypes as in safetensors.h) to `path`. The file appears under its name
// only when it is complete; what fails leaves nothing behind and an older file as it was.
// Throws OutputError that names the file: it exists and not `overwrite`, its folder is missing, it cannot be written,
// the disk is full. Throws std::invalid_argument for an undefined tensor, a dtype that the format lacks, a name given
// twice or "__metadata__".
void save_safetensors(const std::filesystem::path& path, const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata = {}, bool overwrite = false);

}  // namespace opensora::io
