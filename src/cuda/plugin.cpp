// The plug-in's table, and graphs by way of LibTorch's, which keep the memory of what they recorded.
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>

#include "cuda/kernels.h"

namespace opensora::cuda {
namespace {

// LibTorch's graph, except that a recording that fails is over for its allocators too: otherwise they would not give
// cached memory back for the rest of the process.
class Graph final : public at::cuda::CUDAGraph {
 public:
  // Other threads may go on using the device while this one records.
  void begin(at::cuda::MempoolId_t pool) {
    attempt([&] { capture_begin(pool, cudaStreamCaptureModeThreadLocal); });
  }
  void end() {
    attempt([&] { capture_end(); });
  }

 private:
  template <typename Work>
  void attempt(Work&& work) {
    try {
      work();
    } catch (...) {
      abandon();
      throw;
    }
  }

  void abandon() {
    namespace device = c10::cuda::CUDACachingAllocator;
    at::HostAllocator* const host = at::getHostAllocator(at::kCUDA);
    if (capture_dev_ == UNDEFINED_DEVICE) return;  // it had not begun
    ignore_errors([&] { device::endAllocateToPool(capture_dev_, mempool_id_); });
    ignore_errors([&] { host->end_allocate_to_pool(mempool_id_); });
    if (capture_ended_) return;  // what follows is reset()'s
    ignore_errors([&] { device::releasePool(capture_dev_, mempool_id_); });
    ignore_errors([&] { host->release_pool(mempool_id_); });
  }

  // Each throws where the recording did not get so far, or had got past it.
  template <typename Work>
  static void ignore_errors(Work&& work) {
    try {
      work();
    } catch (const c10::Error&) {
    }
  }
};

Graph& graph_of(void* graph) { return *static_cast<Graph*>(graph); }

void begin(void* graph, void* shared) {
  graph_of(graph).begin(shared == nullptr ? at::cuda::MempoolId_t{0, 0} : graph_of(shared).pool());
}

constexpr CudaPlugin kTable = {
    .version = CudaPlugin::kVersion,
    .modulated_layer_norm = modulated_layer_norm,
    .rms_norm_rope = rms_norm_rope,
    .part_moments = part_moments,
    .affine_of_pixels = affine_of_pixels,
    .quantize_rows_to_int8 = quantize_rows_to_int8,
    .quantize_rows_to_fp8 = quantize_rows_to_fp8,
    .rescale_int32 = rescale_int32,
    .rescale_float32 = rescale_float32,
    .error_text = error_text,
    .create_graph = []() -> void* { return new Graph(); },
    .begin_graph = begin,
    .end_graph = [](void* graph) { graph_of(graph).end(); },
    .replay_graph = [](void* graph) { graph_of(graph).replay(); },
    .destroy_graph = [](void* graph) { delete &graph_of(graph); },
#ifdef OPENSORA_HAS_CUDNN_HEADERS
    .fp8_attention = fp8_attention,
    .fp8_support = fp8_support,
#else
    .fp8_attention = nullptr,
    .fp8_support = nullptr,
#endif
};

}  // namespace
}  // namespace opensora::cuda

extern "C" __attribute__((visibility("default"))) const opensora::CudaPlugin* opensora_cuda_plugin() {
  return &opensora::cuda::kTable;
}
