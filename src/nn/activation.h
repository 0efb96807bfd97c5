// Activations that write over their argument: for tensors that nothing else holds.
#pragma once

#include <ATen/ATen.h>

namespace opensora::nn {

inline at::Tensor silu_in_place(at::Tensor x) { return at::silu_(x); }

}  // namespace opensora::nn
