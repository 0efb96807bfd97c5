#include "nn/padded_conv.h"

#include <algorithm>

#include "core/cpu_features.h"
#include "core/meta_device.h"
#include "core/trace.h"

namespace opensora::nn {

PaddedConv::PaddedConv(const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& x, at::IntArrayRef stride)
    : stride_(stride.vec()) {
  const bool is_dense = std::all_of(stride.begin(), stride.end(), [](int64_t s) { return s == 1; });
  if (is_dense && WinogradConv::is_for(x, weight)) {
    winograd_.emplace(weight, bias);
  } else {
    const at::ScalarType dtype = computing_dtype(x.scalar_type(), Work::kConvolution, kernel_device(x));
    weight_ = weight.to(dtype);
    bias_ = bias.to(dtype);
  }
}

void PaddedConv::operator()(const at::Tensor& padded, const at::Tensor& out, bool add) const {
  const TraceSpan span(winograd_ ? "WinogradConv" : "PaddedConv");
  if (winograd_) {
    (*winograd_)(padded, out, add);
    return;
  }
  const at::Tensor result = at::conv3d(padded.to(weight_.scalar_type()), weight_, bias_, stride_);
  add ? out.add_(result) : out.copy_(result);
}

}  // namespace opensora::nn
