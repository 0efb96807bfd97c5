#include "nn/linear.h"

namespace opensora::nn {

Linear::Linear(const Weights& weights, int64_t in_features, int64_t out_features, bool with_bias)
    : weight(weights.tensor("weight", {out_features, in_features})),
      bias(with_bias ? weights.tensor("bias", {out_features}) : at::Tensor()) {}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  const at::ScalarType dtype = x.scalar_type();
  if (!bias.defined()) return at::linear(x, weight.to(dtype));
  return at::linear(x, weight.to(dtype), bias.to(dtype));
}

Embedding::Embedding(const Weights& weights, int64_t count, int64_t width, std::string_view name)
    : weight(weights.tensor(name, {count, width})) {}

at::Tensor Embedding::operator()(const at::Tensor& ids, at::ScalarType dtype) const {
  // Rows are gathered in the checkpoint's dtype: the table itself is never converted.
  return at::embedding(weight, ids.to(weight.device())).to(dtype);
}

}  // namespace opensora::nn
