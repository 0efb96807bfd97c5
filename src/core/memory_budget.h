// A limit to the memory of a run: what exceeds it is an error at once, instead of a machine that swaps or a process
// that is killed.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace opensora {

// While it lives, memory on `device` is limited to `bytes`.
//
// On the CPU that is the anonymous memory that the process has when this begins plus all tensors that are made since;
// views of mapped files do not count, nor what other libraries take meanwhile (oneDNN's buffers, the video encoder).
// What would exceed it throws OutOfMemoryError that names `max_memory`. On an accelerator it is the limit of LibTorch's
// own allocator, which is set before the device is first used.
//
// One at a time in a process. Tensors may outlive it.
class MemoryBudget {
 public:
  MemoryBudget(at::Device device, int64_t bytes);
  ~MemoryBudget();
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

 private:
  bool counts_;
};

}  // namespace opensora
