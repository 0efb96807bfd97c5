#include "core/cpu_features.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <initializer_list>

#include "core/device.h"

namespace opensora {
namespace {

// Calls one of LibTorch's operators "name() -> bool"; false where this LibTorch has none of that name.
bool ask_libtorch(const char* name) {
  const auto schema = c10::Dispatcher::singleton().findSchema({name, ""});
  if (!schema) return false;
  torch::jit::Stack stack;
  schema->callBoxed(stack);
  return stack.back().toBool();
}

// LibTorch hides oneDNN's own functions; its answers on their behalf tell which instruction sets oneDNN has chosen.
LibraryLimits library_limits() {
  using at::native::cpublas::could_pack;
  const bool kernels = at::hasMKLDNN() && at::get_cpu_capability().starts_with("AVX512");
  return {.avx512 = kernels && ask_libtorch("mkldnn::_is_mkldnn_bf16_supported"),
          .avx512_fp16 = kernels && ask_libtorch("mkldnn::_is_mkldnn_fp16_supported"),
          .amx_bf16 = kernels && could_pack(at::kBFloat16),
          .amx_fp16 = kernels && could_pack(at::kHalf)};
}

}  // namespace

CpuFeatures usable_features(const CpuInfo& cpu, const LibraryLimits& limits) {
  const auto has = [&](std::initializer_list<const char*> flags) {
    return std::all_of(flags.begin(), flags.end(), [&](const char* flag) {
      return std::find(cpu.flags.begin(), cpu.flags.end(), flag) != cpu.flags.end();
    });
  };
  // All four are needed: the first generation, the Xeon Phi's, has only the foundation, which the libraries do not use.
  const bool avx512 = limits.avx512 && has({"avx512f", "avx512bw", "avx512vl", "avx512dq"});
  return {.avx512 = avx512,
          .avx512_vnni = avx512 && has({"avx512_vnni"}),
          .avx512_bf16 = avx512 && has({"avx512_bf16"}),
          .avx512_fp16 = avx512 && limits.avx512_fp16 && has({"avx512_fp16"}),
          .amx_bf16 = avx512 && limits.amx_bf16 && has({"amx_tile", "amx_bf16"}),
          .amx_fp16 = avx512 && limits.amx_fp16 && has({"amx_tile", "amx_fp16"}),
          .is_amd = cpu.model.find("AMD") != std::string::npos};
}

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = usable_features(cpu_info(), library_limits());
  return features;
}

at::ScalarType computing_dtype(at::ScalarType asked, Work work, const CpuFeatures& cpu) {
  const bool is_bf16 = asked == at::kBFloat16;
  if (!is_bf16 && asked != at::kHalf) return asked;
  const bool has_tiles = is_bf16 ? cpu.amx_bf16 : cpu.amx_fp16;
  const bool has_vectors = is_bf16 ? cpu.avx512_bf16 : cpu.avx512_fp16;
  switch (work) {
    case Work::kConvolution:
      // Vectors multiply float16 no faster than float32, and in float32 Winograd's method needs 4/9 of the products.
      return has_tiles || (has_vectors && is_bf16) ? asked : at::kFloat;
    case Work::kProduct:
      return has_tiles || has_vectors ? asked : at::kFloat;
    case Work::kAttention:
      // Without tiles, the conversions between softmax and the products cost more than the faster products gain.
      return has_tiles ? asked : at::kFloat;
  }
  return at::kFloat;
}

at::ScalarType computing_dtype(at::ScalarType asked, Work work, at::Device device) {
  return device.is_cpu() ? computing_dtype(asked, work, cpu_features()) : asked;
}

bool computes_in_float32(at::ScalarType asked, at::Device device) {
  return computing_dtype(asked, Work::kConvolution, device) == at::kFloat &&
         computing_dtype(asked, Work::kProduct, device) == at::kFloat;
}

std::optional<at::ScalarType> holding_dtype(at::ScalarType asked, at::Device device) {
  const bool is_done_in_it = computing_dtype(asked, Work::kConvolution, device) == asked &&
                             computing_dtype(asked, Work::kProduct, device) == asked;
  return is_done_in_it ? std::optional(asked) : std::nullopt;
}

std::string computing_text(at::ScalarType asked, const CpuFeatures& cpu) {
  const auto differs = [&](Work work) { return computing_dtype(asked, work, cpu) != asked; };
  const std::string name = dtype_name(asked);
  const bool products = differs(Work::kProduct), convolutions = differs(Work::kConvolution);
  if (products && convolutions) return name + " (computed in fp32)";
  if (products) return name + " (all but convolutions in fp32)";
  if (convolutions) return name + " (convolutions, attention in fp32)";
  return differs(Work::kAttention) ? name + " (attention in fp32)" : name;
}

std::string computing_text(at::ScalarType asked, at::Device device) {
  return device.is_cpu() ? computing_text(asked, cpu_features()) : dtype_name(asked);
}

at::ScalarType default_dtype(const CpuFeatures& cpu) { return cpu.amx_bf16 ? at::kBFloat16 : at::kFloat; }

}  // namespace opensora
