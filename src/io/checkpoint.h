// A model's tensors by name, from one safetensors file or from shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/weights.h"
#include "io/safetensors.h"

namespace opensora::io {

class Checkpoint final : public WeightSource {
 public:
  // `path` is a safetensors file, an index of shards ("*.index.json"), or a folder that holds "model.safetensors" or
  // "model.safetensors.index.json". Maps the files and checks their headers; reads no tensor's data.
  // Throws CheckpointError: nothing there (what was looked for, and where), weights in PyTorch's own format only,
  // a damaged file, shards that are missing or lack tensors that the index promises (all of them are listed).
  static std::shared_ptr<const Checkpoint> open(const std::filesystem::path& path);

  // A view of the file, whatever shape is expected: see SafetensorsFile::tensor.
  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef expected_shape) const override;
  bool contains(const std::string& name) const override { return holders_.contains(name); }
  std::vector<std::string> names() const override;
  std::string description() const override { return path_.string(); }

  // Of all tensors, as stored.
  int64_t bytes() const;

 private:
  Checkpoint() = default;
  void add_file(const std::filesystem::path& file);
  void add_shards(const std::filesystem::path& index_file);

  std::filesystem::path path_;
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> holders_;  // tensor name -> the file that holds it
};

}  // namespace opensora::io
