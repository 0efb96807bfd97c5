// Attention in float32 on AMD's processors.
#pragma once

#include <ATen/ATen.h>

namespace opensora::nn {

// Where flash_attention() is worth it: float32 on a processor for which prefers_onednn() is true, no head narrower than
// what a vector holds, and LibTorch's flash kernels not switched off.
bool is_for_flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// softmax(scale q k^T) v of q [B, H, Lq, D], k and v [B, H, Lk, D], in float32 on an x86 CPU with AVX2; a head's values
// lie together. Returns [B, H, Lq, D], laid out as [B, Lq, H, D].
//
// Blocks of queries meet blocks of keys under a running softmax (Dao et al., "FlashAttention", 2022), as in LibTorch's
// own kernel; but the products are oneDNN's small ones instead of MKL's, which knows no 512-bit vectors of AMD's, and
// the scale is folded into the keys. 1.1 (D = 128) to 1.2 times as fast on Zen 4. NaN and infinite scores give NaN.
at::Tensor flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);

}  // namespace opensora::nn
