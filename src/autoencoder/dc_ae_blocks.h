// The layers of DC-AE: residual blocks, EfficientViT blocks with linear attention, and changes of size with
// parameter-free shortcuts.
//
// Activations are [B, C, T, H, W]; convolutions are padded with zeros on all sides, in time too. Members have the
// checkpoint's names.
#pragma once

#include <ATen/ATen.h>

#include "core/weights.h"
#include "nn/conv.h"

namespace opensora::autoencoder {

// x / sqrt(mean of x^2 over the channels + 1e-5) * weight + bias, in float32.
struct ChannelRMSNorm {
  at::Tensor weight, bias;  // [C]

  ChannelRMSNorm(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// Two convolutions around the identity.
struct ResBlock {
  nn::Conv conv1, conv2;
  ChannelRMSNorm norm;  // after conv2

  ResBlock(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// Attention with ReLU for softmax: linear in the number of positions, all of which attend to each other. The heads
// (32 channels each) come in two scales: q, k, v as they are, and aggregated over 5x5x5 positions.
struct LiteMLA {
  nn::Conv qkv;
  nn::Conv aggregate_space, aggregate_heads;  // a filter for each channel, then a mix within each head's q, k or v
  nn::Conv proj;
  ChannelRMSNorm proj_norm;

  LiteMLA(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// A gated linear unit around a depth-wise convolution, four times as wide as the block.
struct GLUMBConv {
  nn::Conv inverted_conv, depth_conv, point_conv;
  ChannelRMSNorm point_norm;

  GLUMBConv(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

struct EfficientViTBlock {
  LiteMLA context_module;
  GLUMBConv local_module;

  EfficientViTBlock(const Weights& weights, int64_t channels);
  at::Tensor operator()(const at::Tensor& x) const;
};

// A change of width, and of size by `space` (height and width) and `time`: 1 or 2 each. A lone frame stays lone.
struct ResampleOptions {
  int64_t in_channels, out_channels;
  int64_t space = 1, time = 1;
};

// A strided convolution; the shortcut folds positions into channels and averages groups of those.
struct Downsample {
  ResampleOptions options;
  nn::Conv conv;

  Downsample(const Weights& conv_weights, const ResampleOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;
};

// Nearest-neighbour enlargement and a convolution; the shortcut duplicates channels and unfolds them into positions.
struct Upsample {
  ResampleOptions options;
  nn::Conv conv;

  Upsample(const Weights& conv_weights, const ResampleOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;
};

}  // namespace opensora::autoencoder
