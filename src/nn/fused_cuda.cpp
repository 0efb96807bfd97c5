#include "nn/fused_kernels.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "core/cuda_plugin.h"
#include "nn/norm_kernels.h"
#include "nn/quantize_kernels.h"

namespace opensora::nn {
namespace {

using Element = CudaPlugin::Element;

std::optional<Element> element_of(std::initializer_list<at::Tensor> tensors) {
  const at::ScalarType dtype = tensors.begin()->scalar_type();
  const bool share_dtype =
      std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& x) { return x.scalar_type() == dtype; });
  if (!share_dtype) return std::nullopt;
  if (dtype == at::kFloat) return Element::kFloat32;
  if (dtype == at::kHalf) return Element::kFloat16;
  if (dtype == at::kBFloat16) return Element::kBFloat16;
  return std::nullopt;
}

// The element type of `functor` does not matter, since the functor holds nothing but pointers to it.
template <typename Functor>
void launch(CudaPlugin::Launch launch_functor, Element element, const Functor& functor, const at::Tensor& out) {
  if (out.numel() == 0) return;
  const c10::DeviceGuard guard(out.device());
  const c10::Stream stream = c10::impl::VirtualGuardImpl(out.device().type()).getStream(out.device());
  const int32_t error = launch_functor(element, &functor, stream.native_handle());
  TORCH_CHECK(error == 0, "CUDA error: a fused kernel cannot be launched: ", cuda_plugin()->error_text(error));
}

bool cuda_modulated_layer_norm(const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift,
                               const at::Tensor& scale, double eps) {
  const auto element = element_of({out, x, shift, scale});
  if (!element) return false;
  launch(cuda_plugin()->modulated_layer_norm, *element, modulated_layer_norm_of<void>(out, x, shift, scale, eps), out);
  return true;
}

bool cuda_rms_norm_rope(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale,
                        const RotaryEmbedding& rope, double eps) {
  const auto element = element_of({out, x, scale});
  if (!element) return false;
  launch(cuda_plugin()->rms_norm_rope, *element, rms_norm_rope_of<void>(out, x, scale, rope, eps), out);
  return true;
}

bool cuda_quantize_rows(const at::Tensor& q, const at::Tensor& scale, const at::Tensor& x) {
  const auto element = element_of({x});
  if (!element) return false;
  const CudaPlugin& plugin = *cuda_plugin();
  const bool is_int8 = q.scalar_type() == at::kChar;
  launch(is_int8 ? plugin.quantize_rows_to_int8 : plugin.quantize_rows_to_fp8, *element,
         quantize_rows_of<void, void>(q, scale, x), x);
  return true;
}

bool cuda_rescale_sums(const at::Tensor& out, const at::Tensor& sums, const at::Tensor& row_scale,
                       const at::Tensor& column_scale, const at::Tensor& bias, double scale, Ending ending) {
  const auto element = bias.defined() ? element_of({out, bias}) : element_of({out});
  if (!element) return false;
  const CudaPlugin& plugin = *cuda_plugin();
  const bool are_whole = sums.scalar_type() == at::kInt;
  launch(are_whole ? plugin.rescale_int32 : plugin.rescale_float32, *element,
         rescale_sums_of<void, void>(out, sums, row_scale, column_scale, bias, scale, ending), out);
  return true;
}

bool cuda_group_moments(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& variance) {
  const auto element = element_of({x});
  if (!element || !has_part_moments(x, mean.size(1))) return false;
  const at::Tensor parts = empty_parts(x, mean.size(1));
  launch(cuda_plugin()->part_moments, *element, part_moments_of<void>(x, parts), x);
  join_parts(parts, mean, variance);
  return true;
}

bool cuda_channel_affine(const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift,
                         bool with_silu) {
  const auto element = element_of({out, x});
  if (!element || !has_pixel_lanes(out) || !has_pixel_lanes(x)) return false;
  launch(cuda_plugin()->affine_of_pixels, *element, affine_of<void>(out, x, scale, shift, with_silu), out);
  return true;
}

}  // namespace

FusedKernels cuda_kernels() {
  if (cuda_plugin() == nullptr) return {};
  return {.modulated_layer_norm = cuda_modulated_layer_norm,
          .rms_norm_rope = cuda_rms_norm_rope,
          .quantize_rows = cuda_quantize_rows,
          .rescale_sums = cuda_rescale_sums,
          .group_moments = cuda_group_moments,
          .channel_affine = cuda_channel_affine};
}

}  // namespace opensora::nn
