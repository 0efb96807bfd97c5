// GPUs that people have, with what their makers publish of them and what others have measured.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace opensora::tools {

struct GpuFigures {
  std::string_view key;                        // for --gpu
  std::string_view name;                       // for people
  std::vector<std::string_view> driver_names;  // as the driver calls it, without "NVIDIA "
  int memory_gib = 0;
  double bandwidth = 0;  // of its memory, bytes/s
  // Peak FLOP/s without sparsity: float32 outside of the tensor cores, bf16 and fp16 in them, summed in float32.
  double fp32 = 0, half = 0;
  // The share of `half` that a large product in bf16 was measured to reach: above 1 where the clock goes higher than
  // the published peak assumes.
  double product_share = 0;
  double pcie = 0;  // bytes/s in one direction
};

// From the largest to the smallest.
const std::vector<GpuFigures>& gpu_table();

// The one of that key. Throws UsageError that lists all keys.
const GpuFigures& find_gpu(const std::string& key);
// The one that the driver gives this name and memory, or nullptr: it is not in the table.
const GpuFigures* find_present_gpu(const std::string& driver_name, int64_t memory_bytes);

// Whether it has the kernel of `attention` fp8 (nn/attention_fp8.h).
bool has_fp8_attention(const GpuFigures& gpu);

// What a run can have of its memory. A sixteenth is taken: error correction takes that much of an L4's, L40S's or
// A6000's, and where there is none, the driver and a desktop hold about a gigabyte of 16 or 24.
int64_t usable_memory(const GpuFigures& gpu);

}  // namespace opensora::tools
