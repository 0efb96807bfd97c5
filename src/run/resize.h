// Resizing references as the official code does: they are scaled to fill the target, and its centre is cut out.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace opensora::run {

// `rgb`: uint8 [H, W, 3] -> uint8 [height, width, 3], by resize_bicubic(). Throws InputMediaError if the shapes differ
// so much that what is cut away would fill the memory.
at::Tensor resize_crop_image(const at::Tensor& rgb, int64_t height, int64_t width);

// `frames`: uint8 [T, H, W, 3] -> float [T, height, width, 3] of 0 to 255, not rounded. Bilinear without antialiasing.
// Throws as above.
at::Tensor resize_crop_video(const at::Tensor& frames, int64_t height, int64_t width);

// [H, W, 3] or [T, H, W, 3] of 0 to 255, of any dtype -> float [1, 3, T, H, W] of -1 to 1: what autoencoders encode.
at::Tensor to_model_range(const at::Tensor& rgb);

// A range along one axis of the resized picture.
struct Span {
  int64_t begin = 0, size = 0;
};

// `rgb`: uint8 [H, W, 3] -> uint8 [rows.size, columns.size, 3]: a part of the picture resized to `height` x `width`, of
// which nothing else is computed. Antialiased bicubic, bit for bit as Pillow does it: Keys' cubic with a = -0.5,
// widened where the picture shrinks, in fixed point, columns first and rounded to 8 bits between the two passes.
// LibTorch's own differs by a level here and there, which an encoder amplifies.
at::Tensor resize_bicubic(const at::Tensor& rgb, int64_t height, int64_t width, Span rows, Span columns);

}  // namespace opensora::run
