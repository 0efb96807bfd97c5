// Tensors with their names, as files have them.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint.h"

namespace opensora::test {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// All weights of a checkpoint, as views of its files.
inline NamedTensors all_weights(const std::filesystem::path& path) {
  const auto checkpoint = io::Checkpoint::open(path);
  NamedTensors tensors;
  for (const std::string& name : checkpoint->names()) tensors.emplace_back(name, *checkpoint->find(name, {}));
  return tensors;
}

}  // namespace opensora::test
