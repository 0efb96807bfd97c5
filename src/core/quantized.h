// Weights of matrices in 8 bits or fewer: how they are stored, and the one way from them to floating-point numbers.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace opensora {

// What the numbers of a matrix are stored as.
enum class QuantizedFormat {
  kFp8E4M3,  // one Float8_e4m3fn an element
  kFp8E5M2,  // one Float8_e5m2 an element
  kInt8,     // one signed byte an element, symmetric
  // llama.cpp's: rows of blocks that hold their scales, so `data` is bytes.
  kQ8_0,  // 32 elements in 34 bytes
  kQ4_0,  // 32 in 18
  kQ4_K,  // 256 in 144
  kQ5_K,  // 256 in 176
  kQ6_K,  // 256 in 210
};

// "fp8 (e4m3)", "int8", "Q4_K", …
const char* format_name(QuantizedFormat format);
// True for those of llama.cpp.
bool has_blocks(QuantizedFormat format);
// Elements in a block, and the bytes that it takes: {1, 1} without blocks.
struct BlockSize {
  int64_t elements, bytes;
};
BlockSize block_size(QuantizedFormat format);

// A matrix [out, in] as it is stored. Its tensors may be views of a file, or on a device.
struct QuantizedTensor {
  QuantizedFormat format = QuantizedFormat::kInt8;
  at::Tensor data;  // [out, in] of one byte an element; with blocks: Byte [out, bytes of a row]
  at::Tensor
      scale;  // float32: [1] for all, [out, 1] by row, or [out, groups] by row and group of equal size; undefined: 1
  int64_t rotation = 0;  // the inputs were multiplied by a Hadamard matrix in groups of so many; 0: they were not
  bool exact_products = false;  // its maker wants products in floating point, not in 8 bits

  std::vector<int64_t> shape() const;  // [out, in]
  int64_t nbytes() const;              // of data and scale
};

// out [out, in], of any floating-point dtype and on the tensor's device, becomes the matrix: each element computed in
// float32 and rounded once. A rotation is undone.
void dequantize_into(const at::Tensor& out, const QuantizedTensor& from);
at::Tensor dequantized(const QuantizedTensor& from, at::ScalarType dtype);

// Views of `count` of the rows; of `count` of the columns, or nullopt where these begin or end within a block, a group
// of one scale or one of the rotation.
QuantizedTensor rows_of(const QuantizedTensor& matrix, int64_t first, int64_t count);
std::optional<QuantizedTensor> columns_of(const QuantizedTensor& matrix, int64_t first, int64_t count);
// Copies of the rows of these indices, int64 [n].
QuantizedTensor rows_at(const QuantizedTensor& matrix, const at::Tensor& indices);

// The largest numbers of int8, of those that have a negative, and of e4m3.
constexpr double kLargestInt8 = 127, kLargestE4M3 = 448;

// The other way, for kInt8 and kFp8E4M3: `weight` [out, in] of any floating-point dtype, each row with a scale of its
// own by which its largest number becomes the format's. `rotation` divides in, or is 0.
QuantizedTensor quantized_by_row(const at::Tensor& weight, QuantizedFormat format, int64_t rotation = 0);

// The rotation: each group of `size` numbers along the last dimension of x (float32, contiguous, in place) times the
// regular Hadamard matrix of that size, which is symmetric and its own inverse: the Kronecker power of
// [1 1 1 -1; 1 1 -1 1; 1 -1 1 1; -1 1 1 1] / 2, as ComfyUI and stable-diffusion.cpp have it. Large numbers are spread
// over their group, so that fewer of the others are lost in rounding. `size` is a power of four that divides the
// dimension.
void rotate_(const at::Tensor& x, int64_t size);
bool can_rotate(int64_t size);

}  // namespace opensora
