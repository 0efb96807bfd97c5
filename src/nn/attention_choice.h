// Which of LibTorch's kernels of attention a device is to use: each that may run is tried once, compared with
// attention's definition and timed, as none is the fastest everywhere.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace opensora::nn {

// What is attended to, of [1, heads, tokens, head_dim].
struct AttentionShape {
  at::Device device;
  at::ScalarType dtype;
  int64_t heads = 1, tokens = 1, head_dim = 1;
};

struct AttentionKernel {
  std::string name;  // one of attention_backend()'s
  std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v)> run;
};

// How a kernel did.
struct AttentionTrial {
  std::string kernel;
  double seconds = 0;   // the shorter of two runs, after one to warm up
  double error = 0;     // |kernel - definition| / |definition| over some queries, infinite for NaN
  double limit = 0;     // what the dtype's rounding may amount to
  std::string problem;  // what the kernel threw, its first line

  bool agrees() const { return problem.empty() && error <= limit; }
};

// Those of LibTorch's that say of themselves that they can run, in the order of attention_backend()'s names. Throws
// nothing of its own, and has LibTorch print nothing.
std::vector<AttentionKernel> allowed_attention(const AttentionShape& shape);

// Tries `kernels` on random numbers, the same each time. Plain attention ("math"), whose scores take memory by the
// square of the tokens, is tried only where no other agrees. Throws c10::OutOfMemoryError.
std::vector<AttentionTrial> try_attention(const std::vector<AttentionKernel>& kernels, const AttentionShape& shape);

// The fastest of those that agree, the first of equals; plain attention only where there is no other. Empty: none
// agrees.
std::string fastest_attention(const std::vector<AttentionTrial>& trials);

// Tries what allowed_attention() names on `shape`, with no more tokens than kTrialTokens, and has this process prefer
// the fastest. One that throws (a debug line) or disagrees (a warning) is switched off. Where they cannot be tried, as
// for want of memory, a warning says so and the order stays as it was. Logs one line. No other thread may compute
// attention meanwhile.
constexpr int64_t kTrialTokens = 8192;
void choose_attention(AttentionShape shape);

}  // namespace opensora::nn
