#include "tools/roofline.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>

#include "core/stopwatch.h"

namespace opensora::tools {
namespace {

// What the run's own shapes reach of a large product's rate. From an estimate for an H100 SXM whose products reach 794
// TFLOP/s: 500 to 680 by shape in the transformer (590), 620 in attention by cuDNN, 350 in the decoder's convolutions,
// and of its memory's 3.35 TB/s 2.2 to 2.8 between products. Published measurements of attention lie near that: 693
// on an H200 (NVIDIA/cudnn-frontend, benchmark/sdpa_benchmark_training), 225 of 271 on an A100 (Dao,
// "FlashAttention-2", 2023), 118 of 159 in a whole run on an RTX 4090 D (ModelTC/LightX2V, README).
constexpr double kProducts = 0.74, kAttention = 0.78, kConvolutions = 0.44, kMemory = 0.75;

// A copy of pinned memory reaches so much of PCIe, and no more than what the threads that fill the buffers reach
// together: 6 GB/s was measured of one, and four of them are taken to fill a desktop's memory, though a run has up to
// eight (core/weight_stream.cpp).
constexpr double kPcieShare = 0.8, kHostCopies = 24e9;
// What a solid-state drive on PCIe 4 sustains.
constexpr double kDisk = 3e9;
// Of the host, to launch a kernel: 2,000 to 10,000 a forward take 10 to 60 ms.
constexpr double kLaunchSeconds = 6e-6;

// Of cuDNN's attention in FP8 on an H200, 32,768 tokens, no mask, over its own in bf16: 1062 and 693 TFLOP/s
// (NVIDIA/cudnn-frontend, benchmark/sdpa_benchmark_training). Nothing was published of a B200; it is taken as the same.
constexpr double kFp8Attention = 1.53;

double slower(double flops, double rate, double bytes, double memory) { return std::max(flops / rate, bytes / memory); }

double best_seconds_of(int runs, const std::function<void()>& call) {
  double best = 1e9;
  for (int run = 0; run < runs; ++run) best = std::min(best, seconds_of(at::kCPU, call));
  return best;
}

// Bytes/s, read and written, of adding two tensors that no cache holds.
double measure_memory() {
  constexpr int64_t kElements = int64_t{1} << 24;
  const at::Tensor x = at::ones({kElements});
  at::Tensor y = at::ones({kElements});
  return 3 * static_cast<double>(y.nbytes()) / best_seconds_of(4, [&] { y.add_(x); });
}

double measure_call() {
  constexpr int kCalls = 1000;
  at::Tensor x = at::ones({16});
  return best_seconds_of(3,
                         [&] {
                           for (int i = 0; i < kCalls; ++i) x.add_(1);
                         }) /
         kCalls;
}

}  // namespace

Roofline roofline_of(const GpuFigures& gpu, bool half) {
  const double product = (half ? gpu.half : gpu.fp32) * gpu.product_share;
  return {.products = kProducts * product,
          .attention = kAttention * product,
          .convolutions = kConvolutions * product,
          .memory = kMemory * gpu.bandwidth,
          .operator_seconds = kLaunchSeconds,
          .is_asynchronous = true,
          .transfer = std::min(kPcieShare * gpu.pcie, kHostCopies),
          .file = kDisk};
}

Roofline measured_roofline(const run::Rates& rates) {
  return {.products = rates.linear,
          .attention = rates.attention,
          .convolutions = rates.convolution,
          .memory = measure_memory(),
          .operator_seconds = measure_call()};
}

double compute_seconds(const Roofline& device, const StagePlan& stage) {
  const double product_flops = stage.flops - stage.attention_flops - stage.convolution_flops;
  // As many FLOPs in the other dtype as take the same time.
  const double attention_flops = stage.attention_flops - (1 - 1 / kFp8Attention) * stage.fp8_attention_flops;
  const double busy = slower(product_flops, device.products, stage.product_bytes, device.memory) +
                      slower(attention_flops, device.attention, stage.attention_bytes, device.memory) +
                      slower(stage.convolution_flops, device.convolutions, stage.convolution_bytes, device.memory) +
                      stage.elementwise_bytes / device.memory;
  const double calls = stage.operators * device.operator_seconds;
  const double streaming = device.transfer ? static_cast<double>(stage.streamed_bytes) / *device.transfer : 0;
  return std::max(device.is_asynchronous ? std::max(busy, calls) : busy + calls, streaming);
}

double load_seconds(const Roofline& device, const StagePlan& stage) {
  const double reading = device.file ? static_cast<double>(stage.stored_bytes) / *device.file : 0;
  const double copying = device.transfer ? static_cast<double>(stage.loaded_bytes) / *device.transfer : 0;
  return std::max(reading, copying);
}

void add_seconds(const Roofline& device, RunPlan& run) {
  run.seconds = 0;
  for (StagePlan& stage : run.stages) {
    stage.seconds = compute_seconds(device, stage);
    stage.load_seconds = load_seconds(device, stage);
    *run.seconds += *stage.seconds + *stage.load_seconds;
  }
}

}  // namespace opensora::tools
