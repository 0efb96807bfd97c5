// The matrix product behind the linear layers.
#pragma once

#include <ATen/ATen.h>

namespace opensora::nn {

// out = x W^T + bias. x [rows, in], out [rows, out], weight [out, in], all of one dtype; bias [out] or undefined.
void product(const at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// True where float32 products go through oneDNN: LibTorch asks MKL, which has no kernels for the 512-bit vectors of
// AMD's processors (oneDNN's are 5 to 18 % faster there).
bool prefers_onednn();

}  // namespace opensora::nn
