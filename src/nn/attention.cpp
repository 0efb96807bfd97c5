#include "nn/attention.h"

#include <ATen/Context.h>
#include <ATen/SDPBackend.h>

namespace opensora::nn {

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  const std::optional<at::Tensor> bias = options.bias.defined() ? std::optional(options.bias) : std::nullopt;
  return at::scaled_dot_product_attention(q, k, v, bias, /*dropout_p=*/0.0, options.causal, options.scale);
}

void prefer_fast_attention() {
  using at::SDPBackend;
  at::globalContext().setSDPPriorityOrder(
      {static_cast<int64_t>(SDPBackend::cudnn_attention), static_cast<int64_t>(SDPBackend::flash_attention),
       static_cast<int64_t>(SDPBackend::efficient_attention), static_cast<int64_t>(SDPBackend::math)});
}

std::string attention_backend(at::Device device, at::ScalarType dtype, int64_t length, int64_t head_dim) {
  // The choice depends on device, dtype, length and head width, not on the number of heads.
  const at::Tensor x = at::empty({1, 1, length, head_dim}, at::TensorOptions().device(device).dtype(dtype));
  switch (static_cast<at::SDPBackend>(at::_fused_sdp_choice(x, x, x))) {
    case at::SDPBackend::cudnn_attention:
      return "cudnn";
    case at::SDPBackend::flash_attention:
      return "flash";
    case at::SDPBackend::efficient_attention:
      return "efficient";
    case at::SDPBackend::math:
      return "math";
    default:
      return "other";
  }
}

}  // namespace opensora::nn
