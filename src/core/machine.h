// What this machine has: memory, processor, GPUs as the driver reports them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace opensora {

// Bytes; nullopt where the system does not tell (another kernel, a missing /proc).
struct MemoryInfo {
  std::optional<int64_t> total;
  std::optional<int64_t> available;     // without pushing others to swap; within the container's limit, if there is one
  std::optional<int64_t> cgroup_limit;  // nullopt also: no limit
};
MemoryInfo memory_info();

// Resident memory of this process now, in bytes; 0 where the system does not tell.
int64_t resident_bytes();
// The part of it that no file can give again: what was allocated, without mapped files.
int64_t anonymous_bytes();

// Whether the process has a limit to its address space (ulimit -v) and has come within 64 MiB of it. May be called in a
// signal's handler.
bool address_space_was_full();

struct CpuInfo {
  std::string model;               // "Intel(R) Xeon(R) Processor"; empty where the system does not tell
  std::vector<std::string> flags;  // "avx2", "amx_bf16", …, the kernel's words
  int cores = 0;                   // that this process may use
};
CpuInfo cpu_info();

struct GpuInfo {
  std::string name;
  int64_t memory_bytes = 0;
  int capability = 0;  // compute capability, 89 for 8.9; 0: the driver does not tell
};

// NVIDIA's driver and its GPUs, as it reports them. LibTorch is not asked.
struct NvidiaDriver {
  std::string problem;        // why it does not start: "cuInit: CUDA_ERROR_UNKNOWN"; empty also without a driver
  int cuda_version = 0;       // the newest CUDA that it serves, 13010 for 13.1; 0: none is known
  std::vector<GpuInfo> gpus;  // empty without a driver
};
// Asked once in a process.
const NvidiaDriver& nvidia_driver();

const std::vector<GpuInfo>& nvidia_gpus();
// "13.1": the newest CUDA that the driver serves; empty without a driver.
std::string nvidia_driver_cuda_version();
// 13010 -> "13.1"
std::string cuda_version_text(int version);

}  // namespace opensora
