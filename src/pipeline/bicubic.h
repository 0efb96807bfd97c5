// Pillow's bicubic resizing, bit for bit.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace opensora::pipeline {

// A part of one axis of the resized picture.
struct Span {
  int64_t begin = 0, size = 0;
};

// `rgb`: uint8 [H, W, 3] -> uint8 [rows.size, columns.size, 3]: that part of the picture resized to `height` x `width`.
// What lies outside is not computed. The kernel (Keys' cubic, a = -0.5) is widened where the picture shrinks, the
// arithmetic is Pillow's fixed point, columns first and rounded to 8 bits between the two passes. (LibTorch's own
// differs by a level here and there, which an encoder amplifies.)
at::Tensor resize_bicubic(const at::Tensor& rgb, int64_t height, int64_t width, Span rows, Span columns);

}  // namespace opensora::pipeline
