// Matrix products of 8-bit numbers: of weights that are stored in 8 bits, and of activations that are rounded to them,
// each token by a scale of its own. What the library multiplies are plain 8-bit matrices; the scales of tokens and of
// weights are applied to its sums, as they are factors of whole rows and columns.
//
// int8 is multiplied by at::_int_mm(), on the CPU (oneDNN) and on GPUs (cuBLAS), exactly; fp8 by at::_scaled_mm() on
// GPUs. In front of it and behind it stand one pass each, which are kernels of ours where a device has them
// (nn/fused.h).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

#include "core/cpu_features.h"
#include "core/quantized.h"
#include "nn/quantize_functors.h"

namespace opensora::nn {

// Why products of weights in `format` are not made in 8 bits on a device, "the CPU has no VNNI"; empty: they are. On a
// device that is here, the first call for int8 and for fp8 multiplies small matrices and compares, and waits for that;
// where they are wrong, the answer is that. Of the meta device, ask for the device that it stands for; a GPU that is
// not here is taken to have them.
std::string quantized_product_problem(QuantizedFormat format, at::Device device);

// The same from what a CPU can do, and of a GPU of that compute capability (89 for 8.9; 0: not known).
std::string cpu_product_problem(QuantizedFormat format, const CpuFeatures& cpu);
std::string gpu_product_problem(QuantizedFormat format, int capability);

// Whether quantized_product() makes the products of x [..., rows, in]: the weight lies on its device, where the format
// has none of the problems above, no one wants them exact, shape and scales are those that kernels take, and there are
// enough rows. Of tensors on the meta device, that of the device that it stands for.
constexpr int64_t kLeastRows = 17;  // cuBLAS'
bool has_quantized_product(const at::Tensor& x, const QuantizedTensor& weight);

// y = scale * (x W^T + bias), and `out` what `ending` makes of it. x [rows, in] and out [rows, out] of float32,
// bfloat16 or float16, with dense rows; bias [out] of out's dtype, or undefined. False, with nothing done: not
// has_quantized_product(x, weight); the product is then one with the dequantised weight. Takes memory for kMostRows
// rows of x in 8 bits and of out in 32.
constexpr int64_t kMostRows = 2048;
bool quantized_product(const at::Tensor& out, const at::Tensor& x, const QuantizedTensor& weight,
                       const at::Tensor& bias, double scale = 1, Ending ending = Ending::kStore);

// The passes by themselves, in LibTorch's operators.
namespace plain {
// scale [rows], float32: the largest |x| of each row / the largest number of q's dtype (int8 or fp8). q [rows, width]:
// x / scale. x: [rows, width].
void quantize_rows(const at::Tensor& q, const at::Tensor& scale, const at::Tensor& x);
// y = scale * (sums * row_scale * column_scale + bias). sums [rows, width] of int32 or float32; column_scale [width] or
// [1].
void rescale_sums(const at::Tensor& out, const at::Tensor& sums, const at::Tensor& row_scale,
                  const at::Tensor& column_scale, const at::Tensor& bias, double scale, Ending ending);
}  // namespace plain

}  // namespace opensora::nn
