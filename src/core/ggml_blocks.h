// The blocks in which llama.cpp stores rows of a matrix: Q8_0, Q4_0, Q4_K, Q5_K and Q6_K.
#pragma once

#include <ATen/ATen.h>

#include "core/quantized.h"

namespace opensora {

// dequantize_into() for the formats that has_blocks() names: the numbers that llama.cpp's dequantize_row_… gives, bit
// for bit, rounded once to out's dtype. On the CPU each row is decoded in one pass; elsewhere LibTorch's operators do
// it, some rows at a time, so that what they need beside `out` stays small.
void dequantize_blocks_into(const at::Tensor& out, const QuantizedTensor& from);

// The numbers of blocks [..., bytes of a row] as float32 [..., elements of a row], by LibTorch's operators alone: what
// dequantize_blocks_into() does on a device.
at::Tensor decode_blocks(const at::Tensor& bytes, QuantizedFormat format);

}  // namespace opensora
