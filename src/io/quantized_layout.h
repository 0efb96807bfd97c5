// Which of a checkpoint's tensors are quantised matrices, and which belong to these.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/quantized.h"

namespace opensora::io {

class Checkpoint;

// Where a QuantizedTensor's parts are: names of tensors.
struct StoredMatrix {
  QuantizedFormat format = QuantizedFormat::kInt8;
  std::string data, scale;           // `scale` may be empty
  std::vector<int64_t> scale_shape;  // as QuantizedTensor has it
  int64_t rotation = 0;
  bool exact_products = false;
};

struct QuantizedLayout {
  std::map<std::string, StoredMatrix> matrices;  // by the name that a model asks for: "X.weight"
  std::set<std::string> parts;                   // what is no weight itself: scales and notes
};

// Reads no matrix. Known are, beside X.weight of I8 or F8:
//   X.weight_scale  [out, 1], [out] or [1]: what the numbers are to be multiplied by
//   X.input_scale   ignored
//   X.comfy_quant   U8, ComfyUI's note in JSON, which may be missing: {"format": "int8_tensorwise" or
//                   "float8_e4m3fn", …, "convrot": true, "convrot_groupsize": 256, "full_precision_matrix_mult": true}
// Throws FormatError that names the tensor.
QuantizedLayout quantized_layout(const Checkpoint& checkpoint);

// The note for a matrix that quantized_by_row() made.
std::string comfy_note(QuantizedFormat format, int64_t rotation);

}  // namespace opensora::io
