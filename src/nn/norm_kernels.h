// Tensors as the functors of nn/norm_functors.h take them: for the code that launches these.
#pragma once

#include <ATen/ATen.h>

#include "nn/fused_kernels.h"
#include "nn/norm_functors.h"

namespace opensora::nn {

// Whether x [B, C, T, H, W] lies in memory as the functors take it, and has as many channels as they do.
bool has_pixel_lanes(const at::Tensor& x);
// Whether a group's channels divide into a lane's too.
bool has_part_moments(const at::Tensor& x, int64_t groups);

// What PartMoments writes to, on x's device: [B, slices, pixels, G, parts of a group, 3].
at::Tensor empty_parts(const at::Tensor& x, int64_t groups);
// The moments of all the parts of a group, as its mean and variance [B, G], float32.
void join_parts(const at::Tensor& parts, const at::Tensor& mean, const at::Tensor& variance);

inline PixelStrides pixel_strides(const at::Tensor& x) { return {x.stride(0), x.stride(2), x.stride(3)}; }

template <typename T>
PartMoments<T> part_moments_of(const at::Tensor& x, const at::Tensor& parts) {
  const auto size = [](const at::Tensor& tensor, int64_t dim) { return static_cast<int>(tensor.size(dim)); };
  const int rows = size(x, 2) * size(x, 3), slices = size(parts, 1);
  return {.x = const_data_as<T>(x),
          .parts = data_as<MomentsOfPart>(parts),
          .strides = pixel_strides(x),
          .items = x.size(0),
          .channels = size(x, 1),
          .width = size(x, 4),
          .height = size(x, 3),
          .rows = rows,
          .rows_a_slice = (rows + slices - 1) / slices,
          .slices = slices,
          .part_width = size(x, 1) / (size(parts, 3) * size(parts, 4))};
}

template <typename T>
AffineOfPixels<T> affine_of(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale,
                            const at::Tensor& shift, bool with_silu) {
  return {.out = data_as<T>(out),
          .x = const_data_as<T>(x),
          .scale = scale.const_data_ptr<float>(),
          .shift = shift.const_data_ptr<float>(),
          .out_strides = pixel_strides(out),
          .x_strides = pixel_strides(x),
          .items = x.size(0),
          .frames = x.size(2),
          .channels = static_cast<int>(x.size(1)),
          .width = static_cast<int>(x.size(4)),
          .height = static_cast<int>(x.size(3)),
          .with_silu = with_silu};
}

}  // namespace opensora::nn
