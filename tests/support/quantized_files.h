// A model's matrices in 8 bits or fewer as other programs write them, with the numbers that they stand for.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/quantized.h"
#include "support/named_tensors.h"

namespace opensora::test {

// JSON in a tensor of bytes.
at::Tensor bytes_of_text(const std::string& text);

// What a file of a layout holds for the matrix "X.weight", and the numbers (float32) that it stands for, which are
// computed from these by LibTorch's own operators.
struct StoredLayer {
  NamedTensors tensors;  // named after X: ".weight", ".scale_weight", …
  at::Tensor numbers;
  std::string note = {};  // for the file's metadata
};

struct FileLayout {
  std::string name;         // "ComfyUI, scaled fp8"
  std::string description;  // as inspect has it
  std::function<StoredLayer(const at::Tensor& weight)> store;
  NamedTensors of_the_file = {};  // beside the layers: markers
};
// Plain fp8, ComfyUI before and after its notes, musubi-tuner, LightX2V; all are safetensors files.
std::vector<FileLayout> file_layouts();

// Writes `tensors` with all matrices of blocks (two dimensions, "…_blocks.…" or T5's "….block.…", no tables) in that
// layout, names behind `prefix`. Returns what the file stands for: quantised matrices as the numbers, in float32.
NamedTensors write_quantized(const std::filesystem::path& file, const NamedTensors& tensors, const FileLayout& layout,
                             const std::string& prefix = "");

// The same as a GGUF file: matrices in `format` where their rows are whole blocks of it, else in Q8_0 where these are,
// else as they are; `architecture` as in its metadata, and T5's names are llama.cpp's.
NamedTensors write_gguf(const std::filesystem::path& file, const NamedTensors& tensors, QuantizedFormat format,
                        const std::string& architecture);

}  // namespace opensora::test
