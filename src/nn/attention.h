// Scaled dot-product attention: LibTorch's, or flash_attention() where that is faster; and which of LibTorch's kernels
// ran.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <optional>
#include <string>

namespace opensora::nn {

struct AttentionOptions {
  at::Tensor bias;              // added to the scores, broadcast to [B, H, Lq, Lk]; undefined: none
  bool causal = false;          // position i sees keys 0..i
  std::optional<double> scale;  // default 1 / sqrt(D)
};

// q [B, H, Lq, D], k and v [B, H, Lk, D] -> [B, H, Lq, D]. Where cuDNN's kernel fails, without_failing_cudnn() holds.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionOptions& options = {});

// Sets the order in which a GPU's kernels are tried in this process: cuDNN, flash, memory-efficient, plain; choosing
// by measurement is choose_attention()'s (nn/attention_choice.h).
void prefer_fast_attention();

// The same, with the kernel of that name, of attention_backend()'s, before the others.
void prefer_attention(const std::string& name);

// For the rest of the process. Of attention_backend()'s names; any other has no effect.
void switch_off_attention(const std::string& name);

// Runs `work`. If cuDNN fails in it ("No execution plans support the graph", CUDNN_STATUS_…; not for want of memory),
// its kernel of attention is switched off with a warning, and `work` is run once more; not where that was the only one.
at::Tensor without_failing_cudnn(const std::function<at::Tensor()>& work);

// The kernel that LibTorch picks for one sequence of `length` tokens: "cudnn", "flash", "efficient", "math", or "none".
std::string attention_backend(at::Device device, at::ScalarType dtype, int64_t length, int64_t head_dim);

// While it lives, attention() in this process has one kernel, of attention_backend()'s names, or that and the plain
// one. Where LibTorch has none of that name for a device and dtype, attention_backend() says "none", or "math".
class OnlyAttentionBackend {
 public:
  explicit OnlyAttentionBackend(const std::string& name, bool or_plain = false);
  ~OnlyAttentionBackend();

  OnlyAttentionBackend(const OnlyAttentionBackend&) = delete;
  OnlyAttentionBackend& operator=(const OnlyAttentionBackend&) = delete;

 private:
  bool cudnn_, flash_, efficient_, math_;  // as they were
};

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
