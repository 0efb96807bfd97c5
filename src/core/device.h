// Devices and dtypes by name, CUDA found at run time, memory and its figures, and streams of work on a device.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/machine.h"

namespace opensora {

// "auto", "cpu", "cuda" or "cuda:N" -> a device that is there. "auto" is the first CUDA device if there is one. Where
// the program has registered a backend of its own with LibTorch (c10::register_privateuse1_backend), its name is one
// too.
//
// libtorch_cuda.so is opened when a CUDA device is asked for or the NVIDIA driver reports one, before anything asks
// LibTorch about CUDA (it caches its first answer). Throws UsageError for another word, DeviceError for a device that
// is absent or that gpu_problem() speaks of; "auto" then is the CPU, with a warning.
at::Device resolve_device(const std::string& name);

// The same without touching the device: for plans. resolve_device() also makes it this thread's current one.
at::Device find_device(const std::string& name);

// Why the GPU of that index cannot be used, as far as the driver tells (whether there is one, the CUDA that it serves,
// the GPU's compute capability), and what to do about it; empty: nothing is in the way.
std::string driver_problem(const NvidiaDriver& driver, int index);

// The same for this machine, and where the driver has no objection, of LibTorch's CUDA half, which is opened. Nothing
// is launched, and no memory of the GPU is taken. Throws OutOfMemoryError where there is no room for the libraries.
std::string gpu_problem(int index);

// What a GPU that can be used does less well than others; empty: nothing.
std::string gpu_warning(const GpuInfo& gpu, int index);

// What the driver reports of a CUDA device, without an index of the first; nullptr: it knows of none, or the device is
// another.
const GpuInfo* gpu_of(at::Device device);

// Whether the device has arithmetic in bfloat16: NVIDIA's have it from Ampere on.
bool has_bfloat16(at::Device device);

// Runs a small kernel of LibTorch's on the device. Returns what went wrong, in one line; empty: nothing.
std::string launch_problem(at::Device device);

// "fp32", "bf16", "fp16" -> a dtype; "" -> default_dtype() on the CPU, bf16 on an accelerator that has_bfloat16(), fp16
// on others. Throws UsageError.
at::ScalarType resolve_dtype(const std::string& name, at::Device device);

// "fp32", "bf16", "fp16"
std::string dtype_name(at::ScalarType dtype);

// How many GPUs the NVIDIA driver reports: 0 without a driver. Asks the driver itself, not LibTorch.
int nvidia_gpu_count();

// "no NVIDIA GPU found; plug-in: built", "1 GPU(s) found, libraries loaded; plug-in: loaded", "1 GPU(s) found, cannot
// be used: …; …": for --version. The first GPU's, as that is what "auto" takes.
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

// Memory of a device now, in bytes. Throws c10::Error where the device does not tell.
struct DeviceMemory {
  int64_t free = 0;       // as the driver says
  int64_t allocated = 0;  // by LibTorch, for this process
  int64_t cached = 0;     // likewise, and not in use
};
DeviceMemory device_memory(at::Device device);  // not of the CPU

// Starts both peaks above anew, at what is held now. Where the system does not allow it for resident memory (the
// kernel is not Linux, /proc is not there), that stays the highest so far.
void reset_peak_bytes(at::Device device);

// Waits for what was launched on `device`. Nothing on the CPU.
void synchronize(at::Device device);

// A second stream of work on a device; nullopt on the CPU, where calls have done their work when they return. The two
// classes below then do nothing.
std::optional<c10::Stream> second_stream(at::Device device);

// A point in a stream that another stream can wait for.
class DeviceEvent {
 public:
  DeviceEvent() = default;
  explicit DeviceEvent(at::Device device);

  void record(const std::optional<c10::Stream>& stream);
  void record_current();  // in the device's current stream of this thread
  // What `stream` does from here on waits; where nothing was recorded, it does not.
  void block(const std::optional<c10::Stream>& stream) const;
  void block_current() const;
  void wait() const;  // on the caller's thread

 private:
  c10::Stream current() const;

  std::optional<at::Device> device_;
  std::optional<c10::Event> event_;
};

// Copies tensors from the host's memory to a device's, by way of buffers that the device reads at full speed (pinned
// memory), converted to the dtype of the target on the way.
class StagingRing {
 public:
  StagingRing() = default;  // without buffers: copies directly
  // `bytes` of each of the buffers; 0: none.
  StagingRing(at::Device device, int64_t bytes);
  // Waits until the device has read them.
  ~StagingRing();
  StagingRing(StagingRing&&) = default;
  StagingRing& operator=(StagingRing&&) = default;  // the assigned-to has nothing on its way

  // Both contiguous and of the same shape. The work may go on in `stream` (nullopt: the current one) when this returns;
  // `from` is not read any more. As many threads fill a buffer as LibTorch's operators have in the caller's.
  void copy(const at::Tensor& from, const at::Tensor& to, const std::optional<c10::Stream>& stream);

 private:
  struct Buffer {
    at::Tensor memory;  // bytes
    DeviceEvent read;   // by the device
  };
  std::vector<Buffer> buffers_;
  size_t next_ = 0;
};

// Asks for huge pages for a tensor's memory on the CPU, before it is first touched. Does nothing to small ones, on
// other devices, and where the system has none.
void use_huge_pages(const at::Tensor& tensor);

}  // namespace opensora
