#include "nn/conv.h"

namespace opensora::nn {
namespace {

std::vector<int64_t> weight_shape(int64_t dims, const ConvOptions& options) {
  std::vector<int64_t> shape(dims, options.kernel_size);
  shape.insert(shape.begin(), {options.out_channels, options.in_channels / options.groups});
  return shape;
}

}  // namespace

Conv::Conv(const Weights& weights, int64_t dims, const ConvOptions& options)
    : weight(weights.tensor("weight", weight_shape(dims, options))),
      bias(options.bias ? weights.tensor("bias", {options.out_channels}) : at::Tensor()),
      stride(options.stride.empty() ? std::vector<int64_t>(dims, 1) : options.stride),
      padding(dims, options.pad ? options.kernel_size / 2 : 0),
      groups(options.groups) {}

at::Tensor Conv::operator()(const at::Tensor& x) const {
  const at::ScalarType dtype = x.scalar_type();
  const std::vector<int64_t> dilation(stride.size(), 1), output_padding(stride.size(), 0);
  return at::convolution(x, weight.to(dtype), bias.defined() ? bias.to(dtype) : bias, stride, padding, dilation,
                         /*transposed=*/false, output_padding, groups);
}

at::Tensor upsample_nearest(const at::Tensor& x, at::IntArrayRef factors) {
  // One copy: each dimension is followed by a broadcast one of the factor's length, and both are merged.
  const int64_t kept = x.dim() - static_cast<int64_t>(factors.size());
  at::Tensor spread = x;
  std::vector<int64_t> expanded = x.sizes().slice(0, kept).vec(), merged = expanded;
  for (size_t i = 0; i < factors.size(); ++i) {
    const int64_t length = x.size(kept + static_cast<int64_t>(i));
    spread = spread.unsqueeze(kept + 2 * static_cast<int64_t>(i) + 1);
    expanded.insert(expanded.end(), {length, factors[i]});
    merged.push_back(length * factors[i]);
  }
  return spread.expand(expanded).reshape(merged).contiguous();  // never a view with strides of 0
}

}  // namespace opensora::nn
