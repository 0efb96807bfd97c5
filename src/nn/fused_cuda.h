// The fused kernels' functors on a GPU, launched by the CUDA plug-in.
#pragma once

#include "nn/fused.h"

namespace opensora::nn {

// For float32, float16 and bfloat16; none where the plug-in was not loaded. LibTorch's own GELU makes one pass already.
FusedKernels cuda_kernels();

}  // namespace opensora::nn
