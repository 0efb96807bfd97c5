// The kernels of each kind of device, and tensors as their functors take them: for the code that launches them.
#pragma once

#include <ATen/ATen.h>

#include "nn/fused.h"
#include "nn/fused_functors.h"

namespace opensora::nn {

// [B, L, C] or [B, L, H, D]
inline RowStrides row_strides(const at::Tensor& x) {
  return {x.stride(0), x.stride(1), x.dim() == 4 ? x.stride(2) : 0};
}

// A tensor's data as T: its element type, or another of that size and meaning.
template <typename T>
T* data_as(const at::Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}
template <typename T>
const T* const_data_as(const at::Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}

// The functor has out.size(0) * out.size(1) rows.
template <typename T>
ModulatedLayerNorm<T> modulated_layer_norm_of(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift,
                                              const at::Tensor& scale, double eps) {
  return {.out = data_as<T>(out),
          .x = const_data_as<T>(x),
          .shift = const_data_as<T>(shift),
          .scale = const_data_as<T>(scale),
          .out_strides = row_strides(out),
          .x_strides = row_strides(x),
          .shift_stride = shift.stride(0),
          .scale_stride = scale.stride(0),
          .items = x.size(0),
          .length = x.size(1),
          .width = x.size(2),
          .eps = static_cast<float>(eps)};
}

// The functor has out.size(0) * out.size(1) * out.size(2) rows.
template <typename T>
RMSNormRope<T> rms_norm_rope_of(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale,
                                const RotaryEmbedding& rope, double eps) {
  return {.out = data_as<T>(out),
          .x = const_data_as<T>(x),
          .scale = const_data_as<T>(scale),
          .cos = rope.cos.const_data_ptr<float>(),
          .sin = rope.sin.const_data_ptr<float>(),
          .out_strides = row_strides(out),
          .x_strides = row_strides(x),
          .items = x.size(0),
          .length = x.size(1),
          .heads = x.size(2),
          .width = x.size(3),
          .rotate_half = rope.rotate_half,
          .eps = static_cast<float>(eps)};
}

// The functor has x.size(0) * x.size(1) rows.
template <typename T>
GeluTanh<T> gelu_tanh_of(const at::Tensor& x) {
  return {.x = data_as<T>(x), .strides = row_strides(x), .length = x.size(1), .width = x.size(2)};
}

// The CPU's, for float32 and bfloat16.
FusedKernels cpu_kernels();

// A GPU's, launched by the CUDA plug-in, for float32, float16 and bfloat16; none where the plug-in was not loaded.
// LibTorch's own GELU makes one pass already.
FusedKernels cuda_kernels();

}  // namespace opensora::nn
