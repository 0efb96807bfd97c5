#include "nn/product.h"

#include "core/cpu_features.h"
#include "core/trace.h"

namespace at::native {
// LibTorch exports this and installs no header with it: result = alpha * mat1 mat2 + beta * result.
TORCH_API void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2, const Tensor& result, float beta, float alpha);
}  // namespace at::native

namespace opensora::nn {

bool prefers_onednn() {
  const CpuFeatures& cpu = cpu_features();
  return cpu.is_amd && cpu.avx512;
}

void product(const at::Tensor& out, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const TraceSpan span("product");
  at::Tensor result = out;
  const bool is_float_on_cpu = x.is_cpu() && x.scalar_type() == at::kFloat;
  if (is_float_on_cpu && x.numel() > 0 && x.stride(1) == 1 && out.stride(1) == 1 && prefers_onednn()) {
    if (bias.defined()) result.copy_(bias.expand_as(result));
    at::native::mkldnn_matmul(x, weight.t(), result, bias.defined() ? 1.0F : 0.0F, 1.0F);
  } else if (bias.defined()) {
    at::addmm_out(result, bias, x, weight.t());
  } else {
    at::mm_out(result, x, weight.t());
  }
}

}  // namespace opensora::nn
