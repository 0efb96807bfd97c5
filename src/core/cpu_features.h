// In which dtype work is done on this CPU: the one place that knows what its instructions are good for.
//
// A model's results have the dtype that was asked for. Where the CPU has no instructions for that, what comes before is
// computed in float32, as which it is 2 to 150 times as fast, from weights as their file has them: no dtype is slower
// than float32.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>

#include "core/machine.h"

namespace opensora {

// Extensions of x86-64 that the libraries make use of. Other processors have none of these names: all work on them is
// done in float32.
struct CpuFeatures {
  bool avx512 = false;
  bool avx512_vnni = false;                       // products of 8-bit integers in vectors
  bool avx512_bf16 = false, avx512_fp16 = false;  // products of 16-bit floats in vectors
  bool amx_bf16 = false, amx_fp16 = false;        // and in tiles: many times as many
  bool is_amd = false;
};

// How far the libraries go, whatever the CPU has: ATEN_CPU_CAPABILITY keeps LibTorch's own kernels back, and
// ONEDNN_MAX_CPU_ISA oneDNN's. In the order of oneDNN's instruction sets, each with those before it.
struct LibraryLimits {
  bool avx512 = true, avx512_fp16 = true, amx_bf16 = true, amx_fp16 = true;
};

// What is left of a CPU's flags within the limits; and this process' own, found out once.
CpuFeatures usable_features(const CpuInfo& cpu, const LibraryLimits& limits);
const CpuFeatures& cpu_features();

enum class Work {
  kConvolution,  // autoencoders
  kProduct,      // transformers and text encoders, but for their
  kAttention,
};

// The dtype in which work is done when `asked` is: itself, or float32.
at::ScalarType computing_dtype(at::ScalarType asked, Work work, const CpuFeatures& cpu);
// The same on a device: what is asked for on all but the CPU. Of what is on the meta device, ask for the device whose
// kernels it stands in for: kernel_device(), Weights::kernel_device().
at::ScalarType computing_dtype(at::ScalarType asked, Work work, at::Device device);

// True if nothing is done in `asked` itself on the device, so that it saves nothing there.
bool computes_in_float32(at::ScalarType asked, at::Device device);
// In which dtype weights are held on a device: `asked`, or nullopt where not all that has weights is done in that. They
// then stay as their file has them, and layers convert them as they run: nothing is rounded for nothing.
std::optional<at::ScalarType> holding_dtype(at::ScalarType asked, at::Device device);
// For people: "bf16", "bf16 (computed in fp32)", "bf16 (attention in fp32)".
std::string computing_text(at::ScalarType asked, const CpuFeatures& cpu);
std::string computing_text(at::ScalarType asked, at::Device device);

// What a run computes in by default: bf16 where AMX multiplies it, else float32, in which nothing is rounded.
at::ScalarType default_dtype(const CpuFeatures& cpu);

}  // namespace opensora
