// Whether a device's fused kernels compute what the plain path does.
#pragma once

#include <string>
#include <vector>

#include "nn/fused.h"

namespace opensora::nn {

// A kernel in one dtype.
struct KernelTrial {
  std::string kernel;  // "modulated_layer_norm", …
  at::ScalarType dtype;
  bool has_one = true;  // false: the device has none for this dtype
  double error = 0;     // the largest |kernel - plain| / (1 + |plain|), infinite for NaN
  double limit = 0;     // what the dtype's rounding may amount to
  std::string problem;  // what the kernel threw

  bool agrees() const { return !has_one || (problem.empty() && error <= limit); }
};

// Runs each of `kernels` on small inputs of its own, drawn anew but the same each time, in float32, bfloat16 and
// float16: rows that are slices of a buffer, and of a length that is no multiple of a vector's. Milliseconds.
std::vector<KernelTrial> try_kernels(const FusedKernels& kernels, at::Device device);

// `kernels` without those that disagree in any dtype; each of those is a warning.
FusedKernels agreeing_kernels(FusedKernels kernels, at::Device device);

}  // namespace opensora::nn
