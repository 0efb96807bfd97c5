// The blocks in which llama.cpp stores rows of a matrix: Q8_0, Q4_0, Q4_K, Q5_K and Q6_K.
#pragma once

#include <ATen/ATen.h>

#include "core/quantized.h"

namespace opensora {

// What dequantize_into() does for the formats that has_blocks() names: the numbers that llama.cpp's dequantize_row_…
// gives, bit for bit.

// Rows [begin, end) of a matrix on the CPU, into float32 that lies row behind row: each in one pass.
void decode_rows(float* out, const QuantizedTensor& from, int64_t begin, int64_t end);

// All rows by LibTorch's operators, rounded once to out's dtype: some at a time, so that what they need beside `out`
// stays small.
void decode_by_operators(const at::Tensor& out, const QuantizedTensor& from);

// The numbers of blocks [..., bytes of a row] as float32 [..., elements of a row], by LibTorch's operators alone: what
// decode_by_operators() does.
at::Tensor decode_blocks(const at::Tensor& bytes, QuantizedFormat format);

}  // namespace opensora
