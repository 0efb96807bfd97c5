// The fused kernels' functors on the CPU.
#pragma once

#include "nn/fused.h"

namespace opensora::nn {

// For float32 and bfloat16.
FusedKernels cpu_kernels();

}  // namespace opensora::nn
