// Weights in 8 bits: a checkpoint whose large matrices are int8 or fp8, made of one that is not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace opensora {

struct QuantizeRequest {
  std::filesystem::path input;   // what inspect() takes: of a transformer (Open-Sora's, FLUX) or T5
  std::filesystem::path output;  // a safetensors file
  std::string to = "int8";       // or "fp8" (e4m3); each output channel has a scale of its own
  // int8 only: inputs are spread over groups of 256 by a Hadamard matrix, which keeps outliers from costing the others
  // their precision.
  bool rotate = false;
  bool keep_modulations = false;  // a transformer's: in the input's dtype, 27 % of its weights; else in int8
  bool overwrite = false;
};

struct QuantizedLayer {
  std::string name;    // of the matrix
  std::string format;  // "int8", "fp8 (e4m3)"
  int64_t rotation = 0;
  std::vector<int64_t> shape;
  double error = 0;  // the norm of what was lost over that of the matrix
};

struct QuantizeReport {
  std::string kind;  // of model, as CheckpointInfo has it
  std::vector<QuantizedLayer> layers;
  int64_t kept = 0;                           // tensors that are as they were
  int64_t input_bytes = 0, output_bytes = 0;  // of the files
};

// The output appears when it is complete; its metadata are the input's, and say how it was made. Little memory is taken
// beside the file's pages. `on_layer` is called for each layer in the order of the file. Throws UsageError (`to`,
// `rotate`), CheckpointError (the input cannot be read, has nothing to quantise, is quantised already, or holds NaN),
// OutputError.
QuantizeReport quantize(const QuantizeRequest& request,
                        const std::function<void(const QuantizedLayer& layer)>& on_layer = {});

}  // namespace opensora
