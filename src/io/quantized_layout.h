// Which tensors of a file are matrices in 8 bits, and which of the others belong to them: the layouts of ComfyUI
// (before and after its notes), musubi-tuner, LightX2V and our own, and plain fp8.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/quantized.h"

namespace opensora::io {

class Checkpoint;

// How a tensor of the file becomes a QuantizedTensor.
struct StoredMatrix {
  QuantizedFormat format = QuantizedFormat::kInt8;
  std::string scale = {};                 // the name of its scale's tensor; empty: it has none
  std::vector<int64_t> scale_shape = {};  // as QuantizedTensor has it
  int64_t rotation = 0;
  bool exact_products = false;
};

struct QuantizedLayout {
  std::map<std::string, StoredMatrix> matrices;  // by the name that a model asks for: "X.weight"
  std::set<std::string> parts;                   // what is no weight itself: scales and notes
};

// Reads no matrix and no scale. A matrix "X.weight" of F8_E4M3, F8_E5M2 or I8 may have
//   X.weight_scale, X.scale_weight   what its numbers are to be multiplied by: [1], [out], [out, 1], or [out, n] or
//                                    [out, n, 1] of n equal parts of a row
//   X.input_scale, X.scale_input     of calibrated inputs: ignored
//   X.comfy_quant                    ComfyUI's note, JSON in U8: {"format": "int8_tensorwise", "float8_e4m3fn" or
//                                    "float8_e5m2", "convrot": true, "convrot_groupsize": 256,
//                                    "full_precision_matrix_mult": true}; or all of them in the file's metadata,
//                                    "_quantization_metadata": {"layers": {"X": …}}
// and a file of older ComfyUI "scaled_fp8", which asks for exact products if it has two elements.
//
// Throws FormatError that names the tensor: a note that is not JSON, names a format that is not known ("nvfp4"), or not
// that of its matrix; a scale that is missing where int8, a note or the others' scales demand one, that belongs to no
// matrix, or whose shape or dtype does not fit; a rotation that does not fit.
QuantizedLayout quantized_layout(const Checkpoint& checkpoint);

// "int8 by row", "fp8 (e4m3) by row in parts of 64", "fp8 (e5m2)": what tells the matrices of one file from another's.
std::string describe(const StoredMatrix& matrix, at::IntArrayRef shape);

// The dtype of a matrix' tensor, of one byte an element.
at::ScalarType stored_dtype(QuantizedFormat format);

// The note for a matrix that quantized_by_row() made.
std::string comfy_note(QuantizedFormat format, int64_t rotation);

}  // namespace opensora::io
