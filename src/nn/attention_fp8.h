// Attention with products in 8 bits, for runs that ask for it: q, k, v and the softmax's weights are rounded to e4m3
// (FP8: three bits behind the point), which GPUs of compute capability 9.0 and 10.x multiply at twice the rate of bf16.
//
// A run does not take it on trust: in the first forward that may use it each layer's result is compared with the exact
// one, and the layers that are too far off stay exact. B batch, H heads, L tokens, D width of a head.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace opensora::nn {

// Which means over the tokens are subtracted before rounding. Both subtractions are exact but for rounding: the softmax
// does not see what all keys have in common, and its weights add up to 1, so that the values' mean is added to what
// comes out. Without that of the keys, their common part takes the bits that should tell them apart.
struct Smoothing {
  bool keys = true, values = true;
};

// q, k and v as e4m3, each divided by powers of two so that its largest number uses the format's range.
struct Fp8Operands {
  at::Tensor q, k, v;         // [B, H, L, D], float8_e4m3fn, laid out as [B, L, H, D]
  at::Tensor q_unit, k_unit;  // [1], float32: what a 1 stands for
  at::Tensor v_unit, v_mean;  // [B, H, 1, 1] and, undefined without smoothing, [B, H, 1, D], in the inputs' dtype
};

// Rounds q [B, H, Lq, D], k and v [B, H, Lk, D], whose values are lost: they are changed in place.
Fp8Operands to_fp8(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Smoothing& smoothing = {});

// What a kernel does: softmax(scale q k^T) v in v's units, [B, H, Lq, D], laid out as [B, Lq, H, D], in e4m3 or wider.
// The weights e^(score - top) are rounded as kWeightScale times their value, as most are far below 1.
using Fp8Kernel = std::function<at::Tensor(const Fp8Operands& operands, double scale)>;
constexpr double kWeightScale = 256;

// The same by LibTorch's operators in float32, rounded where a GPU's kernel rounds. It runs everywhere, slowly: kernels
// are checked against it, and tests use it.
at::Tensor emulated_fp8_attention(const Fp8Operands& operands, double scale);

// The whole of it: rounds, runs the kernel and returns to the dtype of q. q, k and v are lost.
at::Tensor fp8_attention(const Fp8Kernel& kernel, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const Smoothing& smoothing = {});

struct Fp8Choice {
  Fp8Kernel kernel;     // empty: there is none
  std::string why_not;  // then
};
// The device's kernel: cuDNN's by way of the CUDA plug-in.
Fp8Choice fp8_kernel(at::Device device);
// For tests: an accelerator that is no GPU has this one; empty at first.
Fp8Kernel& simulated_fp8_kernel();

// Steps of a sampling, from 0: those from `first` until before `end`.
struct StepRange {
  int64_t first = 0, end = 0;
  int64_t count() const { return end - first; }
  bool contains(int64_t step) const { return first <= step && step < end; }
};

// Those that may use 8 bits: all but the first tenth, at least two, and the last. What a video shows is settled in the
// first steps, and nothing evens out the last one's errors. The authors of SageAttention advise as much of theirs.
StepRange fp8_steps(int64_t steps);

// How far a layer's result may be off: |8 bits - exact| / |exact|, and the cosine of the two. Rounding what comes out
// to e4m3 is an error of 0.026 by itself.
constexpr double kFp8Error = 0.05, kFp8Cosine = 0.999;

struct Fp8Agreement {
  double error = 0, cosine = 0;
  bool is_enough() const { return error <= kFp8Error && cosine >= kFp8Cosine; }  // false for NaN
};

// The attention of one sampling. Not for several threads.
class Fp8Attention {
 public:
  // `layers`: how many of them call it.
  Fp8Attention(Fp8Kernel kernel, int64_t layers, StepRange steps, const Smoothing& smoothing = {});
  // For a plan, on the meta device: counts what a GPU would do and hold. Nothing is to be checked.
  static Fp8Attention planned(int64_t layers, StepRange steps);

  bool is_for(int64_t step) const { return steps_.contains(step); }

  // softmax(q k^T / sqrt(D)) v of layer `layer`, from 0. q, k and v are lost. Until settle() was called the result is
  // the exact one, and what 8 bits give is compared with it; nothing waits for the device.
  at::Tensor operator()(int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

  // After a forward of all layers: waits for the device once, has the layers that failed stay exact, and logs a line.
  void settle();
  bool is_settled() const { return settled_; }

  // What settle() found, by layer; empty for a kernel that threw.
  const std::vector<Fp8Agreement>& agreements() const { return agreements_; }
  int64_t layers_in_8_bits() const;
  std::string summary() const;  // "fp8 in 55 of 57 layers"

 private:
  at::Tensor checked(int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

  Fp8Kernel kernel_;
  StepRange steps_;
  Smoothing smoothing_;
  bool settled_ = false;
  std::vector<bool> passed_;        // by layer
  std::vector<at::Tensor> checks_;  // by layer, [3]: see checked()
  std::vector<Fp8Agreement> agreements_;
  std::string problem_;  // what the kernel threw
};

// What a block knows of its attention.
struct AttentionLayer {
  Fp8Attention* fp8 = nullptr;  // null: exact
  int64_t index = 0;            // among all blocks

  // q, k and v are lost where fp8 is not null.
  at::Tensor operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const;
};

}  // namespace opensora::nn
