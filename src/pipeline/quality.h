// How much a picture differs from another.
#pragma once

#include <ATen/ATen.h>

namespace opensora::pipeline {

// Of two pictures uint8 [H, W, 3]: the peak signal-to-noise ratio over all channels, in dB; infinite if they are equal.
double psnr(const at::Tensor& a, const at::Tensor& b);

// Of two pictures uint8 [H, W, 3]: the mean structural similarity of Wang et al. 2004, up to 1 for equal pictures, as
// the mean over the channels. A Gaussian window of 11x11 with sigma 1.5, only where it lies within the picture; an edge
// shorter than 11 pixels narrows it.
double ssim(const at::Tensor& a, const at::Tensor& b);

}  // namespace opensora::pipeline
