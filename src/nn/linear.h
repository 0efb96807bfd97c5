// The fully connected layer and the embedding table.
#pragma once

#include <ATen/ATen.h>

#include "core/weights.h"

namespace opensora::nn {

// y = x W^T + b. The weight keeps the checkpoint's dtype; where that is not x's it is converted as the layer runs.
struct Linear {
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out], or undefined

  Linear(const Weights& weights, int64_t in_features, int64_t out_features, bool with_bias = true);
  at::Tensor operator()(const at::Tensor& x) const;  // [..., in] -> [..., out]
};

struct Embedding {
  at::Tensor weight;  // [count, width]

  Embedding(const Weights& weights, int64_t count, int64_t width, std::string_view name = "weight");
  // ids: int64 of any shape -> [..., width] in `dtype`
  at::Tensor operator()(const at::Tensor& ids, at::ScalarType dtype) const;
};

}  // namespace opensora::nn
