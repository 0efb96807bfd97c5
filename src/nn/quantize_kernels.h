// Tensors as the functors of nn/quantize_functors.h take them: for the code that launches these.
#pragma once

#include <ATen/ATen.h>

#include "core/quantized.h"
#include "nn/fused_kernels.h"
#include "nn/quantize_functors.h"

namespace opensora::nn {

// Of int8 or fp8.
inline float largest_number(at::ScalarType dtype) {
  return static_cast<float>(dtype == at::kChar ? kLargestInt8 : kLargestE4M3);
}

template <typename T, typename Q>
QuantizeRows<T, Q> quantize_rows_of(const at::Tensor& q, const at::Tensor& scale, const at::Tensor& x) {
  return {.q = data_as<Q>(q),
          .scale = scale.mutable_data_ptr<float>(),
          .x = const_data_as<T>(x),
          .x_stride = x.stride(0),
          .rows = x.size(0),
          .width = x.size(1),
          .limit = largest_number(q.scalar_type())};
}

template <typename T, typename S>
RescaleSums<T, S> rescale_sums_of(const at::Tensor& out, const at::Tensor& sums, const at::Tensor& row_scale,
                                  const at::Tensor& column_scale, const at::Tensor& bias, double scale, Ending ending) {
  return {.out = data_as<T>(out),
          .sums = const_data_as<S>(sums),
          .row_scale = row_scale.const_data_ptr<float>(),
          .column_scale = column_scale.const_data_ptr<float>(),
          .bias = bias.defined() ? const_data_as<T>(bias) : nullptr,
          .out_stride = out.stride(0),
          .column_scale_stride = column_scale.numel() == 1 ? 0 : 1,
          .rows = out.size(0),
          .width = out.size(1),
          .scale = static_cast<float>(scale),
          .ending = ending};
}

}  // namespace opensora::nn
