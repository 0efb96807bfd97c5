// Convolution with windows of 3x3 pixels in 4/9 of the multiplications: Winograd's minimal filtering F(2x2, 3x3).
//
// A tile of 2x2 results needs 4x4 inputs. Input and kernel are brought into a space of 16 points (by additions, and
// halves of the kernel alone) where the convolution is a product point by point; over the channels, and over the taps
// in time, each point is a matrix product. The results are those of the direct sum but for the order of roundings.
#pragma once

#include <ATen/ATen.h>

namespace opensora::nn {

// For the CPU and float32. Tensors are [B, C, T, H, W] with the channels innermost in memory.
class WinogradConv {
 public:
  // Whether it can stand in for a convolution of `x` with `weight` [out, in, k, 3, 3], stride 1, and is worth it.
  // On the meta device: whether it would on the device that this stands in for.
  static bool is_for(const at::Tensor& x, const at::Tensor& weight);

  WinogradConv(const at::Tensor& weight, const at::Tensor& bias);  // bias [out], or undefined

  // `padded` [B, in, T + k - 1, H + 2, W + 2] -> `out` [B, out, T, H, W]: written over, or added to.
  void operator()(const at::Tensor& padded, const at::Tensor& out, bool add) const;

 private:
  struct Job;
  void run(const Job& job) const;

  int64_t taps_;       // in time
  at::Tensor kernel_;  // [16, k * in, out]
  at::Tensor bias_;    // [out]
};

}  // namespace opensora::nn
