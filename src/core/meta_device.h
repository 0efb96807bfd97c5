// Models run shape-only on LibTorch's meta device, with the memory and the FLOPs counted that a real run would need.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>

namespace opensora {

// FLOPs, two a multiply-add. Only what costs: matrix products, convolutions, attention (a causal one in full).
struct FlopCount {
  double linear = 0, convolution = 0, attention = 0;
  double total() const { return linear + convolution + attention; }
};

// Bytes that operators read and write: each tensor that they are given, and each that they make, once. Views move
// nothing. On a real device it is its memory that bounds what is not bound by FLOPs.
struct ByteCount {
  double linear = 0, convolution = 0, attention = 0;  // of the operators whose FLOPs are counted
  double elementwise = 0;                             // of all others: norms, activations, copies
  double operators = 0;                               // how many there were: each launches a kernel or two
};

// While it lives, tensors on the meta device are counted as if they had memory, and the operators that LibTorch's meta
// device lacks in C++ work: convolution, the norms, attention, embedding. Each of them allocates what the kernels of a
// real device do beside their result: attention no scores, a convolution on the CPU its oneDNN buffers.
//
// One at a time in a process, and no other thread uses the meta device meanwhile. Tensors may outlive it; each knows
// whose it is.
class MetaDevice {
 public:
  // `device`: whose kernels are stood in for; only its type counts.
  explicit MetaDevice(at::Device device);
  ~MetaDevice();
  MetaDevice(const MetaDevice&) = delete;
  MetaDevice& operator=(const MetaDevice&) = delete;

  // Bytes of all tensors that were made on the meta device since this object was, and are still there.
  int64_t live_bytes() const;
  // The highest that live_bytes() has been since the last reset_peak().
  int64_t peak_bytes() const;
  void reset_peak();

  // Since the last reset_counts(), in the thread that made this object.
  const FlopCount& flops() const;
  const ByteCount& bytes() const;
  void reset_counts();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// For kernels of our own. Whose kernels run on `x`: its own device's, or of a tensor that was made on the meta device
// while a MetaDevice lived, those of the device that this stood in for.
at::DeviceType kernel_device(const at::Tensor& x);
// What one of them would have done with `out` and what it reads; nothing without a MetaDevice.
void count_convolution(const at::Tensor& out, at::TensorList read, double flops);
// A pass over tensors, where the kernel returns at once on the meta device. One that is changed in place is read, too.
void count_pass(at::TensorList tensors);

}  // namespace opensora
