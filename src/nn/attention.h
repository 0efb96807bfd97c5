// Scaled dot-product attention: LibTorch's, or flash_attention() where that is faster; and which of LibTorch's kernels
// ran.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>

namespace opensora::nn {

struct AttentionOptions {
  at::Tensor bias;              // added to the scores, broadcast to [B, H, Lq, Lk]; undefined: none
  bool causal = false;          // position i sees keys 0..i
  std::optional<double> scale;  // default 1 / sqrt(D)
};

// q [B, H, Lq, D], k and v [B, H, Lk, D] -> [B, H, Lq, D]
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionOptions& options = {});

// Sets the order in which a GPU's kernels are tried in this process: cuDNN, flash, memory-efficient, plain.
void prefer_fast_attention();

// The kernel that LibTorch picks for one sequence of `length` tokens: "cudnn", "flash", "efficient", "math", or "none".
std::string attention_backend(at::Device device, at::ScalarType dtype, int64_t length, int64_t head_dim);

// While it lives, attention() in this process has one kernel, of attention_backend()'s names. Where LibTorch has none
// of that name for a device and dtype, attention_backend() says "none".
class OnlyAttentionBackend {
 public:
  explicit OnlyAttentionBackend(const std::string& name);
  ~OnlyAttentionBackend();

  OnlyAttentionBackend(const OnlyAttentionBackend&) = delete;
  OnlyAttentionBackend& operator=(const OnlyAttentionBackend&) = delete;

 private:
  bool cudnn_, flash_, efficient_, math_;  // as they were
};

}  // namespace opensora::nn
