// Measures of how much two pictures differ.
#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace opensora::tools {

// Of two pictures, uint8 [H, W, 3], over all channels.
double mean_squared_error(const at::Tensor& a, const at::Tensor& b);

// The peak signal-to-noise ratio of pictures in 8 bits that differ so much, in dB. Infinite if they are equal.
double psnr_of(double mean_squared_error);
double psnr(const at::Tensor& a, const at::Tensor& b);

// The mean structural similarity of two pictures, uint8 [H, W, 3], after Wang et al. 2004, as the mean over the
// channels; 1 for equal pictures. The window is Gaussian, 11x11 with sigma 1.5, and used only where it lies within the
// picture; an edge shorter than 11 pixels narrows it.
double ssim(const at::Tensor& a, const at::Tensor& b);

// Of the frames of a video. Not a number of none.
double mean(const std::vector<double>& values);

}  // namespace opensora::tools
