#include "nn/fused_kernels.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <initializer_list>

#include "nn/quantize_kernels.h"
#include "nn/vectors.h"

namespace opensora::nn {
namespace {

// OPENSORA_MULTIVERSION's clones cannot be templates.
#define OPENSORA_MAKE_ROWS(Functor)                                                          \
  OPENSORA_MULTIVERSION void make_rows(const Functor& functor, int64_t begin, int64_t end) { \
    for (int64_t row = begin; row < end; ++row) functor(row, OneLane());                     \
  }
OPENSORA_MAKE_ROWS(ModulatedLayerNorm<float>)
OPENSORA_MAKE_ROWS(ModulatedLayerNorm<BFloat16>)
OPENSORA_MAKE_ROWS(RMSNormRope<float>)
OPENSORA_MAKE_ROWS(RMSNormRope<BFloat16>)
OPENSORA_MAKE_ROWS(GeluTanh<float>)
OPENSORA_MAKE_ROWS(GeluTanh<BFloat16>)
template <typename T>
using QuantizeToInt8 = QuantizeRows<T, int8_t>;
template <typename T>
using RescaleInt32 = RescaleSums<T, int32_t>;
OPENSORA_MAKE_ROWS(QuantizeToInt8<float>)
OPENSORA_MAKE_ROWS(QuantizeToInt8<BFloat16>)
OPENSORA_MAKE_ROWS(RescaleInt32<float>)
OPENSORA_MAKE_ROWS(RescaleInt32<BFloat16>)

// `functor_of(T())` is the functor on T. The number of rows is the product of the dimensions of `out` without the last.
template <typename FunctorOf>
bool run(const at::Tensor& out, FunctorOf&& functor_of) {
  const int64_t rows = out.numel() / std::max<int64_t>(1, out.size(-1));
  const auto on_all_rows = [&](const auto& functor) {
    const int64_t grain = std::max<int64_t>(1, at::internal::GRAIN_SIZE / functor.width);
    at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) { make_rows(functor, begin, end); });
    return true;
  };
  if (out.scalar_type() == at::kFloat) return on_all_rows(functor_of(float()));
  if (out.scalar_type() == at::kBFloat16) return on_all_rows(functor_of(BFloat16()));
  return false;
}

bool share_dtype(std::initializer_list<at::Tensor> tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [&](const at::Tensor& x) { return x.scalar_type() == tensors.begin()->scalar_type(); });
}

bool cpu_modulated_layer_norm(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift,
                              const at::Tensor& scale, double eps) {
  return share_dtype({out, x, shift, scale}) &&
         run(out, [&](auto element) { return modulated_layer_norm_of<decltype(element)>(out, x, shift, scale, eps); });
}

bool cpu_rms_norm_rope(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale, const RotaryEmbedding& rope,
                       double eps) {
  return share_dtype({out, x, scale}) &&
         run(out, [&](auto element) { return rms_norm_rope_of<decltype(element)>(out, x, scale, rope, eps); });
}

bool cpu_gelu_tanh(const at::Tensor& x) {
  return run(x, [&](auto element) { return gelu_tanh_of<decltype(element)>(x); });
}

bool cpu_quantize_rows(const at::Tensor& q, const at::Tensor& scale, const at::Tensor& x) {
  return q.scalar_type() == at::kChar &&
         run(x, [&](auto element) { return quantize_rows_of<decltype(element), int8_t>(q, scale, x); });
}

bool cpu_rescale_sums(const at::Tensor& out, const at::Tensor& sums, const at::Tensor& row_scale,
                      const at::Tensor& column_scale, const at::Tensor& bias, double scale, Ending ending) {
  if (sums.scalar_type() != at::kInt || (bias.defined() && !share_dtype({out, bias}))) return false;
  return run(out, [&](auto element) {
    return rescale_sums_of<decltype(element), int32_t>(out, sums, row_scale, column_scale, bias, scale, ending);
  });
}

}  // namespace

FusedKernels cpu_kernels() {
  return {.modulated_layer_norm = cpu_modulated_layer_norm,
          .rms_norm_rope = cpu_rms_norm_rope,
          .gelu_tanh = cpu_gelu_tanh,
          .quantize_rows = cpu_quantize_rows,
          .rescale_sums = cpu_rescale_sums};
}

}  // namespace opensora::nn
