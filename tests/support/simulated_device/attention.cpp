// Which kernel computes attention: chosen as LibTorch does on a GPU of capability 9.0, by the same switches and order,
// so that each of its four ways can be taken. What cuDNN's and the memory-efficient kernel would compute is computed by
// the CPU's flash attention.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/SDPBackend.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "support/simulated_device/state.h"

namespace opensora::test::simulated {
namespace {

using at::SDPBackend;

bool is_half(const at::Tensor& x) { return x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16; }

// The memory-efficient kernel reads 16 bytes at once.
bool is_aligned(const at::Tensor& x) { return x.size(-1) * x.element_size() % 16 == 0; }

bool can_run(SDPBackend backend, const at::Tensor& query, bool has_mask) {
  const at::Context& context = at::globalContext();
  switch (backend) {
    case SDPBackend::cudnn_attention:
      return context.userEnabledCuDNNSDP() && is_half(query) && query.size(-1) <= 256 && query.size(-1) % 8 == 0;
    case SDPBackend::flash_attention:
      return context.userEnabledFlashSDP() && is_half(query) && query.size(-1) <= 256 && !has_mask;
    case SDPBackend::efficient_attention:
      return context.userEnabledMemEfficientSDP() && is_aligned(query);
    case SDPBackend::math:
      return context.userEnabledMathSDP();
    default:
      return false;
  }
}

int64_t choose_attention(const at::Tensor& query, const at::Tensor& /*key*/, const at::Tensor& /*value*/,
                         const std::optional<at::Tensor>& mask, double /*dropout*/, bool /*is_causal*/,
                         std::optional<double> /*scale*/, bool /*enable_gqa*/) {
  const bool has_mask = mask && mask->defined();
  for (const SDPBackend backend : at::globalContext().sDPPriorityOrder()) {
    if (can_run(backend, query, has_mask)) return static_cast<int64_t>(backend);
  }
  TORCH_CHECK(false, "No available kernel. Aborting execution.");
}

at::Tensor computed(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                    const std::optional<at::Tensor>& mask, bool is_causal, std::optional<double> scale) {
  return std::get<0>(at::_scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, is_causal, mask, scale));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> efficient_attention(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const std::optional<at::Tensor>& mask,
    bool /*compute_log_sumexp*/, double /*dropout*/, bool is_causal, std::optional<double> scale) {
  return {computed(query, key, value, mask, is_causal, scale), {}, {}, {}};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor, at::Tensor, at::Tensor>
cudnn_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                const std::optional<at::Tensor>& mask, bool /*compute_log_sumexp*/, double /*dropout*/, bool is_causal,
                bool /*return_debug_mask*/, std::optional<double> scale) {
  return {computed(query, key, value, mask, is_causal, scale), {}, {}, {}, query.size(2), key.size(2), {}, {}, {}};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_fused_sdp_choice", &choose_attention);
  library.impl("_scaled_dot_product_efficient_attention", &efficient_attention);
  library.impl("_scaled_dot_product_cudnn_attention", &cudnn_attention);
}

}  // namespace
}  // namespace opensora::test::simulated
