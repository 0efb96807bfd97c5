// Normalisation layers. Statistics are computed in float32 whatever the input's dtype.
#pragma once

#include <ATen/ATen.h>

#include "core/weights.h"

namespace opensora::nn {

struct LayerNorm {
  at::Tensor weight, bias;  // [width]
  double eps;

  LayerNorm(const Weights& weights, int64_t width, double eps);
  at::Tensor operator()(const at::Tensor& x) const;
};

// x / sqrt(mean(x^2) + eps) * scale over the last dimension; no mean is subtracted.
struct RMSNorm {
  at::Tensor scale;  // [width]
  double eps;

  // `name`: the checkpoint's word for the scale ("scale" in the transformer, "weight" in T5).
  RMSNorm(const Weights& weights, int64_t width, double eps, std::string_view name);
  at::Tensor operator()(const at::Tensor& x) const;
};

}  // namespace opensora::nn
