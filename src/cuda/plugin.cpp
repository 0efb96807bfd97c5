// The plug-in's table, and graphs by way of LibTorch's, which keep the memory of what they recorded.
#include <ATen/cuda/CUDAGraph.h>

#include "cuda/kernels.h"

namespace opensora::cuda {
namespace {

at::cuda::CUDAGraph& graph_of(void* graph) { return *static_cast<at::cuda::CUDAGraph*>(graph); }

// Other threads may go on using the device while this one records.
void begin(void* graph, void* shared) {
  const at::cuda::MempoolId_t pool = shared == nullptr ? at::cuda::MempoolId_t{0, 0} : graph_of(shared).pool();
  graph_of(graph).capture_begin(pool, cudaStreamCaptureModeThreadLocal);
}

constexpr CudaPlugin kTable = {
    .version = CudaPlugin::kVersion,
    .modulated_layer_norm = modulated_layer_norm,
    .rms_norm_rope = rms_norm_rope,
    .error_text = error_text,
    .create_graph = []() -> void* { return new at::cuda::CUDAGraph(); },
    .begin_graph = begin,
    .end_graph = [](void* graph) { graph_of(graph).capture_end(); },
    .replay_graph = [](void* graph) { graph_of(graph).replay(); },
    .destroy_graph = [](void* graph) { delete &graph_of(graph); },
};

}  // namespace
}  // namespace opensora::cuda

extern "C" __attribute__((visibility("default"))) const opensora::CudaPlugin* opensora_cuda_plugin() {
  return &opensora::cuda::kTable;
}
