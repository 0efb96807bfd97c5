// The fused kernels on a GPU: a warp makes a row.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/kernels.h"
#include "nn/fused_functors.h"

namespace opensora::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kRowsABlock = 4;

// The threads of a warp, for the functors.
struct WarpLanes {
  int lane;

  OPENSORA_KERNEL int64_t first() const { return lane; }
  OPENSORA_KERNEL static constexpr int64_t step() { return kWarp; }
  OPENSORA_KERNEL static float sum(float value) {
#if defined(__CUDA_ARCH__)
    for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffU, value, offset);
#endif
    return value;
  }
};

template <typename Functor>
__global__ void make_rows(const Functor functor, int64_t rows) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsABlock + threadIdx.x / kWarp;
  if (row < rows) functor(row, WarpLanes{static_cast<int>(threadIdx.x % kWarp)});
}

template <typename Functor>
int32_t launch(const void* functor, int64_t rows, void* stream) {
  if (rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((rows + kRowsABlock - 1) / kRowsABlock);
  make_rows<<<blocks, kRowsABlock * kWarp, 0, static_cast<cudaStream_t>(stream)>>>(
      *static_cast<const Functor*>(functor), rows);
  return cudaGetLastError();
}

template <template <typename> class Functor>
int32_t launch_for(CudaPlugin::Element element, const void* functor, int64_t rows, void* stream) {
  switch (element) {
    case CudaPlugin::Element::kFloat32:
      return launch<Functor<float>>(functor, rows, stream);
    case CudaPlugin::Element::kFloat16:
      return launch<Functor<__half>>(functor, rows, stream);
    case CudaPlugin::Element::kBFloat16:
      return launch<Functor<__nv_bfloat16>>(functor, rows, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int32_t modulated_layer_norm(CudaPlugin::Element element, const void* functor, int64_t rows, void* stream) {
  return launch_for<nn::ModulatedLayerNorm>(element, functor, rows, stream);
}

int32_t rms_norm_rope(CudaPlugin::Element element, const void* functor, int64_t rows, void* stream) {
  return launch_for<nn::RMSNormRope>(element, functor, rows, stream);
}

const char* error_text(int32_t error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace opensora::cuda
