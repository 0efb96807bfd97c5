// Resizing references as the official code does: to fill the target, then the centre is cut out.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace opensora::pipeline {

// `rgb`: uint8 [H, W, 3] -> uint8 [height, width, 3]. Antialiased bicubic, bit for bit Pillow's
// (LibTorch's own differs by a level here and there, which an encoder amplifies). Throws InputMediaError if the
// shapes differ so much that what is cut away would fill the memory.
at::Tensor resize_crop_image(const at::Tensor& rgb, int64_t height, int64_t width);

// `frames`: uint8 [T, H, W, 3] -> float [T, height, width, 3] of 0 to 255, not rounded. Bilinear without antialiasing.
// Throws as above.
at::Tensor resize_crop_video(const at::Tensor& frames, int64_t height, int64_t width);

// [H, W, 3] or [T, H, W, 3] of 0 to 255, of any dtype -> float [1, 3, T, H, W] of -1 to 1: what autoencoders encode.
at::Tensor to_model_range(const at::Tensor& rgb);

}  // namespace opensora::pipeline
