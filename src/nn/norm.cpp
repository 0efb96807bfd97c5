#include "nn/norm.h"

namespace opensora::nn {

LayerNorm::LayerNorm(const Weights& weights, int64_t width, double eps)
    : weight(weights.tensor("weight", {width})), bias(weights.tensor("bias", {width})), eps(eps) {}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  const at::ScalarType dtype = x.scalar_type();
  return at::layer_norm(x, {x.size(-1)}, weight.to(dtype), bias.to(dtype), eps);
}

RMSNorm::RMSNorm(const Weights& weights, int64_t width, double eps, std::string_view name)
    : scale(weights.tensor(name, {width})), eps(eps) {}

at::Tensor RMSNorm::operator()(const at::Tensor& x) const {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor inverse_rms = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return (wide * inverse_rms).to(x.scalar_type()) * scale.to(x.scalar_type());
}

}  // namespace opensora::nn
