// Reading GGUF files, the format of llama.cpp and what grew around it: https://github.com/ggml-org/ggml, docs/gguf.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "io/tensor_file.h"

namespace opensora::io {

// One file of version 2 or 3. Names are those of the models: a T5 encoder of llama.cpp ("enc.blk.0.attn_q.weight") has
// Hugging Face's. Metadata are numbers and texts; of a list, how many values it has. A tensor in blocks has its shape
// in elements.
class GgufFile final : public TensorFile {
 public:
  // Throws CheckpointError that names the file and the tensor or key: not there, cut short, big-endian, another
  // version, a part of a split file, a type of blocks that cannot be read ("Q2_K"), rows that are not whole blocks,
  // tensors outside the file or over each other, names given twice, sizes that overflow.
  explicit GgufFile(std::filesystem::path path);

  at::Tensor tensor(const std::string& name) const override;
};

}  // namespace opensora::io
