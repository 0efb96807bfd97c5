#include "nn/conv.h"

#include <algorithm>

#include "core/cpu_features.h"
#include "core/meta_device.h"
#include "core/trace.h"
#include "nn/winograd.h"

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

bool Conv::runs_in_parts(const at::Tensor& x) const {
  const auto all = [](const std::vector<int64_t>& list) {
    return std::all_of(list.begin(), list.end(), [](int64_t value) { return value == 1; });
  };
  return x.dim() == 5 && groups == 1 && all(stride) && all(padding) && WinogradConv::is_for(x, weight);
}

// Takes some frames at a time, together with their neighbours, and with a border of zeros around them.
at::Tensor Conv::run_in_parts(const at::Tensor& x) const {
  const int64_t frames = x.size(2), height = x.size(3), width = x.size(4), step = frames_at_a_time(x);
  const WinogradConv conv(weight, bias);
  at::Tensor out = empty_channels_last(x, {x.size(0), weight.size(0), frames, height, width});
  const at::Tensor window = empty_channels_last(x, {x.size(0), x.size(1), step + 2, height + 2, width + 2}).zero_();
  for (int64_t first = 0; first < frames; first += step) {
    const int64_t count = std::min(step, frames - first);
    const int64_t begin = std::max<int64_t>(first - 1, 0), end = std::min(first + count + 1, frames);
    window.narrow(2, begin - first + 1, end - begin)
        .narrow(3, 1, height)
        .narrow(4, 1, width)
        .copy_(x.narrow(2, begin, end - begin));
    if (first + count == frames) window.select(2, count + 1).zero_();
    conv(window.narrow(2, 0, count + 2), out.narrow(2, first, count), /*add=*/false);
  }
  return out;
}

at::Tensor Conv::operator()(const at::Tensor& x) const {
  const at::ScalarType dtype = computing_dtype(x.scalar_type(), Work::kConvolution, kernel_device(x));
  if (dtype != x.scalar_type()) return (*this)(x.to(dtype)).to(x.scalar_type());
  if (runs_in_parts(x)) return run_in_parts(x);
  const std::vector<int64_t> dilation(stride.size(), 1), output_padding(stride.size(), 0);
  // A GPU's kernels for videos want the channels innermost, and leave them so: only what comes in otherwise is copied.
  const bool wants_channels_last = kernel_device(x) != at::kCPU && x.dim() == 5 && groups == 1;
  const at::Tensor input = wants_channels_last ? x.contiguous(at::MemoryFormat::ChannelsLast3d) : x;
  return at::convolution(input, weight.to(dtype), bias.defined() ? bias.to(dtype) : bias, stride, padding, dilation,
                         /*transposed=*/false, output_padding, groups);
}

at::Tensor upsample_nearest(const at::Tensor& x, at::IntArrayRef factors) {
  if (x.dim() == 5 && factors.size() == 3 && !x.is_contiguous() && x.is_contiguous(at::MemoryFormat::ChannelsLast3d)) {
    // As if the channels were a fourth dimension, which is not enlarged.
    return upsample_nearest(x.permute({0, 2, 3, 4, 1}), {factors[0], factors[1], factors[2], 1})
        .permute({0, 4, 1, 2, 3});
  }
  // Only one copy is made: each dimension is followed by a broadcast one of the factor's length, then both are merged.
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

int64_t frames_at_a_time(const at::Tensor& x) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const int64_t frames = x.size(2), frame_bytes = static_cast<int64_t>(x.nbytes()) / frames;
  return std::clamp<int64_t>(kBytes / frame_bytes, std::min<int64_t>(2, frames), frames);
}

at::Tensor empty_channels_last(const at::Tensor& x, at::IntArrayRef shape) {
  return at::empty(shape, x.options(), at::MemoryFormat::ChannelsLast3d);
}

PaddedWindow::PaddedWindow(const at::Tensor& x, int64_t chunk, int64_t history)
    : history_(history),
      buffer_(empty_channels_last(x, {x.size(0), x.size(1), history + chunk, x.size(3) + 2, x.size(4) + 2})) {}

at::Tensor PaddedWindow::push(int64_t count, const std::function<void(const at::Tensor& frames)>& fill) {
  const auto frame = [&](int64_t t) { return buffer_.select(2, t); };
  const bool is_first = filled_ == 0;
  for (int64_t t = 0; t < history_ && !is_first; ++t) frame(t).copy_(frame(t + filled_));
  filled_ = count;

  const int64_t height = buffer_.size(3) - 2, width = buffer_.size(4) - 2;
  const at::Tensor added = buffer_.narrow(2, history_, count), rows = added.narrow(3, 1, height);
  fill(rows.narrow(4, 1, width));
  rows.select(4, 0).copy_(rows.select(4, 1));
  rows.select(4, width + 1).copy_(rows.select(4, width));
  added.select(3, 0).copy_(added.select(3, 1));
  added.select(3, height + 1).copy_(added.select(3, height));
  for (int64_t t = 0; t < history_ && is_first; ++t) frame(t).copy_(frame(history_));
  return buffer_.narrow(2, 0, history_ + count);
}

PaddedConv::PaddedConv(const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& x, at::IntArrayRef stride)
    : stride_(stride.vec()) {
  const bool is_dense = std::all_of(stride.begin(), stride.end(), [](int64_t s) { return s == 1; });
  if (is_dense && WinogradConv::is_for(x, weight)) {
    winograd_.emplace(weight, bias);
  } else {
    const at::ScalarType dtype = computing_dtype(x.scalar_type(), Work::kConvolution, kernel_device(x));
    const bool is_on_cpu = kernel_device(x) == at::kCPU;
    weight_ = is_on_cpu ? weight.to(dtype) : weight.to(dtype).contiguous(at::MemoryFormat::ChannelsLast3d);
    bias_ = bias.to(dtype);
    adds_bias_ = !is_on_cpu;
  }
}

void PaddedConv::operator()(const at::Tensor& padded, const at::Tensor& out, bool add) const {
  const TraceSpan span(winograd_ ? "WinogradConv" : "PaddedConv");
  if (winograd_) {
    (*winograd_)(padded, out, add);
    return;
  }
  const at::Tensor input = padded.to(weight_.scalar_type());
  if (adds_bias_ && !add && out.scalar_type() == weight_.scalar_type()) {
    at::Tensor result = out;  // the same tensor, as at::add_out takes no const reference
    at::add_out(result, at::conv3d(input, weight_, {}, stride_), bias_.view({-1, 1, 1, 1}));
    return;
  }
  const at::Tensor result = at::conv3d(input, weight_, bias_, stride_);
  add ? out.add_(result) : out.copy_(result);
}

}  // namespace opensora::nn
