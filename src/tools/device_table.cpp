#include "tools/device_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "opensora/error.h"

namespace opensora::tools {
namespace {

constexpr double kTera = 1e12, kGiga = 1e9;
constexpr int64_t kGiB = int64_t{1} << 30;

// A lane's 16 and 32 GT/s with 128b/130b coding, in one direction.
constexpr double kPcie4x16 = 31.5 * kGiga, kPcie4x8 = 15.75 * kGiga, kPcie5x16 = 63 * kGiga;

// Measured bf16 products, TFLOP/s over peak.
//   B200 1745 of 2250, H100 SXM 794.5 of 989, A100 SXM 271.2 of 312: S. Bekman, "Machine Learning Engineering",
//     compute/accelerator, Maximum Achievable Matmul FLOPS (2026; H200: "the same as H100").
//   H100 PCIe 499.5 of 756, RTX 6000 Ada 278.5 of 364.2, L40S 252 of 362, L4 91.4 of 121, RTX 4090 178.5 of 165.2,
//     RTX 3090 78 of 71.2: mag-/gpu_benchmark, README (2025).
//   RTX A6000 95 of 154.8 (fp16): M. Li, "transformers-benchmarks", README (2022).
//   RTX 5090 179 to 237 of 209.5 in six reports: zzc0721/torch-performance-test-data (2025, 2026).
// Other GeForce cards take their generation's; the RTX PRO 6000 the RTX 6000 Ada's, as the last one of its kind.
constexpr double kB200 = 0.776, kHopper = 0.803, kHopperPcie = 0.661, kA100 = 0.869, kRtx6000Ada = 0.765, kL40s = 0.696,
                 kL4 = 0.755, kA6000 = 0.61, kGeForce50 = 1.0, kGeForce40 = 1.08, kGeForce30 = 1.1;

// Peaks are the makers', "dense" and with float32 sums:
//   NVIDIA DGX B200 datasheet (2024): 1,440 GB, 64 TB/s, 72 PFLOPS of FP8 with sparsity for eight; HGX: 36 of FP16,
//     FP32 600 TFLOPS for eight.
//   NVIDIA H200 datasheet (2024); NVIDIA H100 datasheet (2023): with sparsity, halved here.
//   NVIDIA A100 datasheet (2021). SXM; PCIe with 80 GB has 1,935 GB/s.
//   NVIDIA L40S datasheet (2023); NVIDIA L4 datasheet (2023): 242 TFLOPS with sparsity.
//   NVIDIA RTX PRO Blackwell GPU Architecture (2025): RTX PRO 6000 Blackwell Workstation Edition.
//   NVIDIA RTX Blackwell GPU Architecture (2025), appendix: RTX 5090, 5080, 5070 Ti.
//   NVIDIA Ada GPU Architecture v2.x (2023), appendices: RTX 6000 Ada, RTX 4090, 4080.
//   NVIDIA Ampere GA102 GPU Architecture v2.1 (2021), appendices: RTX A6000, RTX 3090.
//   NVIDIA's product pages for RTX 4070 Ti SUPER and 4060 Ti (2024), RTX 3060 (2021): FP32 from cores and boost clock;
//     the tensor cores of a GeForce card do twice that with float32 sums, as the white papers' appendices have it.
std::vector<GpuFigures> make_table() {
  const auto row = [](std::string_view key, std::string_view name, std::vector<std::string_view> driver_names,
                      int memory_gib, double gigabytes_per_second, double fp32, double half, double product_share,
                      double pcie) {
    return GpuFigures{key,          name,         std::move(driver_names), memory_gib, gigabytes_per_second * kGiga,
                      fp32 * kTera, half * kTera, product_share,           pcie};
  };
  return {
      row("b200", "B200", {"B200"}, 180, 8000, 75, 2250, kB200, kPcie5x16),
      row("h200", "H200", {"H200"}, 141, 4800, 67, 989.4, kHopper, kPcie5x16),
      row("h100", "H100 SXM", {"H100 80GB HBM3"}, 80, 3350, 67, 989.4, kHopper, kPcie5x16),
      row("h100-pcie", "H100 PCIe", {"H100 PCIe"}, 80, 2000, 51, 756, kHopperPcie, kPcie5x16),
      row("a100-80", "A100 80GB", {"A100-SXM4-80GB", "A100 80GB PCIe"}, 80, 1935, 19.5, 312, kA100, kPcie4x16),
      row("a100-40", "A100 40GB", {"A100-SXM4-40GB", "A100-PCIE-40GB"}, 40, 1555, 19.5, 312, kA100, kPcie4x16),
      row("rtx-pro-6000", "RTX PRO 6000 Blackwell",
          {"RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell Server Edition"}, 96, 1792, 126, 503.8,
          kRtx6000Ada, kPcie5x16),
      row("rtx6000-ada", "RTX 6000 Ada", {"RTX 6000 Ada Generation"}, 48, 960, 91.1, 364.2, kRtx6000Ada, kPcie4x16),
      row("l40s", "L40S", {"L40S"}, 48, 864, 91.6, 362, kL40s, kPcie4x16),
      row("a6000", "RTX A6000", {"RTX A6000"}, 48, 768, 38.7, 154.8, kA6000, kPcie4x16),
      row("l4", "L4", {"L4"}, 24, 300, 30.3, 121, kL4, kPcie4x16),
      row("5090", "RTX 5090", {"GeForce RTX 5090"}, 32, 1792, 104.8, 209.5, kGeForce50, kPcie5x16),
      row("4090", "RTX 4090", {"GeForce RTX 4090"}, 24, 1008, 82.6, 165.2, kGeForce40, kPcie4x16),
      row("3090", "RTX 3090", {"GeForce RTX 3090"}, 24, 936, 35.6, 71.2, kGeForce30, kPcie4x16),
      row("5080", "RTX 5080", {"GeForce RTX 5080"}, 16, 960, 56.3, 112.6, kGeForce50, kPcie5x16),
      row("5070ti", "RTX 5070 Ti", {"GeForce RTX 5070 Ti"}, 16, 896, 43.9, 87.9, kGeForce50, kPcie5x16),
      row("4080", "RTX 4080", {"GeForce RTX 4080"}, 16, 716.8, 48.7, 97.5, kGeForce40, kPcie4x16),
      row("4070ti-16", "RTX 4070 Ti SUPER", {"GeForce RTX 4070 Ti SUPER"}, 16, 672, 44.1, 88.2, kGeForce40, kPcie4x16),
      row("4060ti-16", "RTX 4060 Ti 16GB", {"GeForce RTX 4060 Ti"}, 16, 288, 22.1, 44.1, kGeForce40, kPcie4x8),
      row("3060-12", "RTX 3060 12GB", {"GeForce RTX 3060"}, 12, 360, 12.7, 25.5, kGeForce30, kPcie4x16),
  };
}

}  // namespace

const std::vector<GpuFigures>& gpu_table() {
  static const std::vector<GpuFigures> table = make_table();
  return table;
}

const GpuFigures& find_gpu(const std::string& key) {
  std::vector<std::string_view> keys;
  for (const GpuFigures& gpu : gpu_table()) {
    if (gpu.key == key) return gpu;
    keys.push_back(gpu.key);
  }
  throw UsageError(fmt::format("`gpu`: expected one of {}, found \"{}\"", fmt::join(keys, ", "), key));
}

const GpuFigures* find_present_gpu(const std::string& driver_name, int64_t memory_bytes) {
  constexpr std::string_view kMaker = "NVIDIA ";
  std::string_view name = driver_name;
  if (name.starts_with(kMaker)) name.remove_prefix(kMaker.size());
  for (const GpuFigures& gpu : gpu_table()) {
    // Some are sold with two sizes of memory.
    const double share = static_cast<double>(memory_bytes) / static_cast<double>(gpu.memory_gib * kGiB);
    const bool is_named = std::find(gpu.driver_names.begin(), gpu.driver_names.end(), name) != gpu.driver_names.end();
    if (is_named && share > 0.9 && share < 1.1) return &gpu;
  }
  return nullptr;
}

bool has_fp8_attention(const GpuFigures& gpu) {
  constexpr std::array<std::string_view, 4> kHopperAndB200 = {"b200", "h200", "h100", "h100-pcie"};
  return std::find(kHopperAndB200.begin(), kHopperAndB200.end(), gpu.key) != kHopperAndB200.end();
}

int64_t usable_memory(const GpuFigures& gpu) { return gpu.memory_gib * kGiB / 16 * 15; }

}  // namespace opensora::tools
