// Reading GGUF files, the format of llama.cpp and what grew around it: https://github.com/ggml-org/ggml, docs/gguf.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "io/tensor_file.h"

namespace opensora::io {

class MappedFile;

// One file of version 2 or 3, mapped read-only. Opening reads and checks the list of tensors and touches no tensor's
// data. Names are those of the models: a T5 encoder of llama.cpp ("enc.blk.0.attn_q.weight") has Hugging Face's.
class GgufFile final : public TensorFile {
 public:
  // Throws CheckpointError that names the file and the tensor or key: not there, cut short, big-endian, another
  // version, a part of a split file, a type of blocks that cannot be read ("Q2_K"), rows that are not whole blocks,
  // tensors outside the file or over each other, names given twice, sizes that overflow.
  explicit GgufFile(std::filesystem::path path);

  const std::filesystem::path& path() const override { return path_; }
  // A tensor in blocks has its shape in elements.
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  // Numbers and texts; of a list, how many values it has.
  const std::map<std::string, std::string>& metadata() const override { return metadata_; }
  // Of one in blocks, the bytes [rows, bytes of a row].
  at::Tensor tensor(const std::string& name) const override;

 private:
  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> mapping_;
  std::map<std::string, TensorInfo> tensors_;  // begin and end: bytes from the start of the file
  std::map<std::string, std::string> metadata_;
};

}  // namespace opensora::io
