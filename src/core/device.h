// Devices and dtypes by name, CUDA found at run time, and memory figures.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace opensora {

// "auto", "cpu", "cuda" or "cuda:N" -> a device that is there. "auto" is the first CUDA device if there is one.
//
// libtorch_cuda.so is opened when a CUDA device is asked for or the NVIDIA driver reports one, before anything asks
// LibTorch about CUDA (it caches its first answer). Throws UsageError for another word, DeviceError for a device that
// is absent or whose libraries cannot be opened.
at::Device resolve_device(const std::string& name);

// "fp32", "bf16", "fp16" -> a dtype; "" -> bf16 on an accelerator, default_dtype() on the CPU. Throws UsageError.
at::ScalarType resolve_dtype(const std::string& name, at::Device device);

// "fp32", "bf16", "fp16"
std::string dtype_name(at::ScalarType dtype);

// How many GPUs the NVIDIA driver reports: 0 without a driver. Asks the driver itself, not LibTorch.
int nvidia_gpu_count();

// "found (2 GPUs)", "no NVIDIA driver", …: for --version.
std::string cuda_state();

// A library that a GPU needs: where it was found, or why it was not.
struct CudaLibrary {
  std::string name;
  std::filesystem::path path;  // empty: not found
  std::string problem;
};
// LibTorch's CUDA half, the CUDA run time, cuBLAS and cuDNN. Opens them as far as that goes.
std::vector<CudaLibrary> cuda_libraries();

// What this program wants of LibTorch's CUDA half, as resolve_device() sets it: memory segments that grow, unless the
// environment's allocator settings (PYTORCH_ALLOC_CONF) speak of them; cuDNN chooses kernels by its heuristics, not by
// trying them out; float32 is float32, never TF32. Before the first allocation on a GPU.
void settle_cuda();

// Makes `device` what this thread's work on GPUs goes to where it names none: each thread begins with the first, which
// would get a context, and half a gigabyte of its memory would go. resolve_device() does so for its caller's thread.
// Nothing on the CPU.
void make_current(at::Device device);

// Gives cached, unused device memory back to the device. Nothing on the CPU.
void release_cached_memory(at::Device device);

// Highest resident memory of this process so far, in bytes.
int64_t peak_resident_bytes();

// Highest memory that LibTorch had allocated on `device`, in bytes; 0 on the CPU.
int64_t peak_device_bytes(at::Device device);

// Starts both figures above anew, at what is held now. Where the system does not allow it for resident memory (the
// kernel is not Linux, /proc is not there), that stays the highest so far.
void reset_peak_bytes(at::Device device);

// Waits for what was launched on `device`. Nothing on the CPU.
void synchronize(at::Device device);

}  // namespace opensora
