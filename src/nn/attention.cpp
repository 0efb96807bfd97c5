#include "nn/attention.h"

#include <ATen/Context.h>
#include <ATen/SDPBackend.h>

#include <cmath>

#include "core/cpu_features.h"
#include "core/meta_device.h"
#include "nn/flash_attention.h"

namespace opensora::nn {

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options) {
  const at::ScalarType dtype = computing_dtype(q.scalar_type(), Work::kAttention, kernel_device(q));
  if (dtype != q.scalar_type()) {
    AttentionOptions converted = options;
    if (options.bias.defined()) converted.bias = options.bias.to(dtype);
    return attention(q.to(dtype), k.to(dtype), v.to(dtype), converted).to(q.scalar_type());
  }
  if (!options.bias.defined() && !options.causal && is_for_flash_attention(q, k, v)) {
    return flash_attention(q, k, v, options.scale.value_or(1 / std::sqrt(static_cast<double>(q.size(-1)))));
  }
  const std::optional<at::Tensor> bias = options.bias.defined() ? std::optional(options.bias) : std::nullopt;
  return at::scaled_dot_product_attention(q, k, v, bias, /*dropout_p=*/0.0, options.causal, options.scale);
}

void prefer_fast_attention() {
  using at::SDPBackend;
  at::globalContext().setSDPPriorityOrder(
      {static_cast<int64_t>(SDPBackend::cudnn_attention), static_cast<int64_t>(SDPBackend::flash_attention),
       static_cast<int64_t>(SDPBackend::efficient_attention), static_cast<int64_t>(SDPBackend::math)});
}

namespace {

// LibTorch throws where every kernel that could run is switched off.
at::SDPBackend choose(const at::Tensor& x) {
  try {
    return static_cast<at::SDPBackend>(at::_fused_sdp_choice(x, x, x));
  } catch (const c10::Error&) {
    return at::SDPBackend::error;
  }
}

void enable(bool cudnn, bool flash, bool efficient, bool math) {
  at::Context& context = at::globalContext();
  context.setSDPUseCuDNN(cudnn);
  context.setSDPUseFlash(flash);
  context.setSDPUseMemEfficient(efficient);
  context.setSDPUseMath(math);
}

}  // namespace

std::string attention_backend(at::Device device, at::ScalarType dtype, int64_t length, int64_t head_dim) {
  // The choice depends on device, dtype, length and head width, not on the number of heads.
  const at::ScalarType computing = computing_dtype(dtype, Work::kAttention, device);
  const at::Tensor x = at::empty({1, 1, length, head_dim}, at::TensorOptions().device(device).dtype(computing));
  switch (choose(x)) {
    case at::SDPBackend::cudnn_attention:
      return "cudnn";
    case at::SDPBackend::flash_attention:
      return "flash";
    case at::SDPBackend::efficient_attention:
      return "efficient";
    case at::SDPBackend::math:
      return "math";
    case at::SDPBackend::error:
      return "none";
    default:
      return "other";
  }
}

OnlyAttentionBackend::OnlyAttentionBackend(const std::string& name)
    : cudnn_(at::globalContext().userEnabledCuDNNSDP()),
      flash_(at::globalContext().userEnabledFlashSDP()),
      efficient_(at::globalContext().userEnabledMemEfficientSDP()),
      math_(at::globalContext().userEnabledMathSDP()) {
  enable(name == "cudnn", name == "flash", name == "efficient", name == "math");
}

OnlyAttentionBackend::~OnlyAttentionBackend() { enable(cudnn_, flash_, efficient_, math_); }

}  // namespace opensora::nn
