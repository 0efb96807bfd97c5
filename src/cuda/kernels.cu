// The functors of nn/fused_functors.h, nn/norm_functors.h and nn/quantize_functors.h on a GPU.
//
// What nvcc 13.0.88 makes of them for bfloat16 (cuobjdump -res-usage, -sass). None has a stack or spills, and none
// calls anything but, on sm_80, RoPE a shuffle for a warp that is split:
//
//                            registers on sm_80, 90, 100, 120   128-bit loads and stores (sm_90)
//   layer_norm_in_registers               38, 47,  43,  47       9 (3 of x), 3: a row of up to 3,072
//   layer_norm                            32, 32,  32,  40       none, 16 bits each
//   rope_in_registers                     56, 56,  64,  64       2 and 2 a head, 6 for angles and scale
//   rope                                  47, 48,  47,  48       none, 16 bits each
//   part_moments_kernel                   40, 40,  48,  48       1 for eight elements
//   affine_kernel                         40, 40,  48,  40       1 and 1 for eight elements, 4 for scale and shift
//   quantize_kernel                       32, 32,  30,  36       2 of x, the second time from a cache; writes 64 bits
//   rescale_kernel (of int32)             34, 36,  40,  40       2 of sums, 1 for eight results
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "cuda/kernels.h"
#include "nn/fused_functors.h"
#include "nn/norm_functors.h"
#include "nn/quantize_functors.h"

namespace opensora::cuda {
namespace {

using Element = CudaPlugin::Element;

constexpr int kWarp = 32;

// Lanes for the functors: kCount neighbouring threads of a warp.
template <int kCount>
struct Neighbours {
  OPENSORA_KERNEL static int first() {
#if defined(__CUDA_ARCH__)
    return static_cast<int>(threadIdx.x % kCount);
#else
    return 0;
#endif
  }
  OPENSORA_KERNEL static constexpr int step() { return kCount; }
  OPENSORA_KERNEL static float sum(float value) {
#if defined(__CUDA_ARCH__)
    constexpr unsigned kAll = 0xFFFFFFFFU;
    // Only these threads: others of the warp may have nothing to sum up any more.
    const unsigned mask = kAll >> (kWarp - kCount) << (threadIdx.x % kWarp / kCount * kCount);
    for (int offset = kCount / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(mask, value, offset);
#endif
    return value;
  }
};

// All threads of a warp.
struct WholeWarp : Neighbours<kWarp> {
  OPENSORA_KERNEL static uint32_t max(uint32_t value) {
#if defined(__CUDA_ARCH__)
    return __reduce_max_sync(0xFFFFFFFFU, value);
#else
    return value;
#endif
  }
};

// All kCount threads of a block.
template <int kCount>
struct WholeBlock {
  float* of_warps;  // shared, [kCount / kWarp]

  OPENSORA_KERNEL static int first() {
#if defined(__CUDA_ARCH__)
    return static_cast<int>(threadIdx.x);
#else
    return 0;
#endif
  }
  OPENSORA_KERNEL static constexpr int step() { return kCount; }
  OPENSORA_KERNEL float sum(float value) const {
#if defined(__CUDA_ARCH__)
    value = Neighbours<kWarp>::sum(value);
    __syncthreads();  // the last sum has been read
    if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < kCount / kWarp; ++warp) value += of_warps[warp];
#endif
    return value;
  }
};

// The largest of all threads of a block needs no numbers between them but its warps'.
template <int kCount>
struct LargestOfBlock : WholeBlock<kCount> {
  OPENSORA_KERNEL uint32_t max(uint32_t value) const {
#if defined(__CUDA_ARCH__)
    float* const of_warps = this->of_warps;
    value = WholeWarp::max(value);
    __syncthreads();
    if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = __uint_as_float(value);
    __syncthreads();
    for (int warp = 0; warp < kCount / kWarp; ++warp) value = ::max(value, __float_as_uint(of_warps[warp]));
#endif
    return value;
  }
};

// A block makes a row.
template <typename T>
__global__ void __launch_bounds__(nn::ModulatedLayerNorm<T>::kLanes)
    layer_norm_in_registers(const nn::ModulatedLayerNorm<T> functor) {
  constexpr int kThreads = nn::ModulatedLayerNorm<T>::kLanes;
  __shared__ float of_warps[kThreads / kWarp];
  functor.in_registers(blockIdx.y, blockIdx.x, WholeBlock<kThreads>{of_warps});
}

constexpr int kWarpsABlock = 4;

// A warp makes a row, of any width.
template <typename T>
__global__ void __launch_bounds__(kWarpsABlock* kWarp) layer_norm(const nn::ModulatedLayerNorm<T> functor) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsABlock + threadIdx.x / kWarp;
  if (row < functor.length) functor.at(blockIdx.y, row, Neighbours<kWarp>());
}

template <typename T>
void launch(const nn::ModulatedLayerNorm<T>& functor, cudaStream_t stream) {
  const auto items = static_cast<unsigned>(functor.items), length = static_cast<unsigned>(functor.length);
  if (functor.fits_registers()) {
    layer_norm_in_registers<<<dim3(length, items), nn::ModulatedLayerNorm<T>::kLanes, 0, stream>>>(functor);
  } else {
    layer_norm<<<dim3((length + kWarpsABlock - 1) / kWarpsABlock, items), kWarpsABlock * kWarp, 0, stream>>>(functor);
  }
}

constexpr int kHeadsAtOnce = 8;
// On a processor, to hide memory's latency: no more than 64 registers a thread for half types, 80 for float32.
template <typename T>
constexpr int kBlocksAtLeast = sizeof(T) == 2 ? 16 : 12;

// A block makes a token: as many heads at once as there are groups of lanes.
template <typename T>
__global__ void __launch_bounds__(nn::RMSNormRope<T>::kLanes* kHeadsAtOnce, kBlocksAtLeast<T>)
    rope_in_registers(const nn::RMSNormRope<T> functor) {
  constexpr int kLanes = nn::RMSNormRope<T>::kLanes;
  functor.in_registers(blockIdx.y, blockIdx.x, static_cast<int>(threadIdx.x) / kLanes, kHeadsAtOnce,
                       Neighbours<kLanes>());
}

// A block makes a token, each warp a head at a time, of any width.
template <typename T>
__global__ void __launch_bounds__(kWarpsABlock* kWarp) rope(const nn::RMSNormRope<T> functor) {
  for (int64_t h = threadIdx.x / kWarp; h < functor.heads; h += kWarpsABlock) {
    functor.at(blockIdx.y, blockIdx.x, h, Neighbours<kWarp>());
  }
}

template <typename T>
void launch(const nn::RMSNormRope<T>& functor, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(functor.length), static_cast<unsigned>(functor.items));
  if (functor.fits_registers()) {
    rope_in_registers<<<grid, nn::RMSNormRope<T>::kLanes * kHeadsAtOnce, 0, stream>>>(functor);
  } else {
    rope<<<grid, kWarpsABlock * kWarp, 0, stream>>>(functor);
  }
}

// A block makes a slice.
template <typename T>
__global__ void __launch_bounds__(nn::PixelLane::kLanes) part_moments_kernel(const nn::PartMoments<T> functor) {
  functor(blockIdx.y, static_cast<int>(blockIdx.x), static_cast<int>(threadIdx.x));
}

template <typename T>
void launch(const nn::PartMoments<T>& functor, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(functor.slices), static_cast<unsigned>(functor.items));
  part_moments_kernel<<<grid, nn::PixelLane::kLanes, 0, stream>>>(functor);
}

// A block makes a row.
template <typename T>
__global__ void __launch_bounds__(nn::PixelLane::kLanes) affine_kernel(const nn::AffineOfPixels<T> functor) {
  functor(blockIdx.z, blockIdx.y, blockIdx.x, static_cast<int>(threadIdx.x));
}

template <typename T>
void launch(const nn::AffineOfPixels<T>& functor, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(functor.height), static_cast<unsigned>(functor.frames),
                  static_cast<unsigned>(functor.items));
  affine_kernel<<<grid, nn::PixelLane::kLanes, 0, stream>>>(functor);
}

// A block makes a row.
template <typename T, typename Q>
__global__ void __launch_bounds__(nn::QuantizeRows<T, Q>::kLanes)
    quantize_kernel(const nn::QuantizeRows<T, Q> functor, bool in_eights) {
  constexpr int kThreads = nn::QuantizeRows<T, Q>::kLanes;
  __shared__ float of_warps[kThreads / kWarp];
  const LargestOfBlock<kThreads> lanes{{of_warps}};
  if (in_eights) {
    functor.in_eights(blockIdx.x, lanes);
  } else {
    functor(blockIdx.x, lanes);
  }
}

template <typename T, typename Q>
void launch(const nn::QuantizeRows<T, Q>& functor, cudaStream_t stream) {
  quantize_kernel<<<static_cast<unsigned>(functor.rows), nn::QuantizeRows<T, Q>::kLanes, 0, stream>>>(
      functor, functor.fits_eights());
}

// A block makes a row.
template <typename T, typename S>
__global__ void __launch_bounds__(nn::RescaleSums<T, S>::kLanes)
    rescale_kernel(const nn::RescaleSums<T, S> functor, bool in_eights) {
  const WholeBlock<nn::RescaleSums<T, S>::kLanes> lanes{nullptr};  // that share nothing
  if (in_eights) {
    functor.in_eights(blockIdx.x, lanes);
  } else {
    functor(blockIdx.x, lanes);
  }
}

template <typename T, typename S>
void launch(const nn::RescaleSums<T, S>& functor, cudaStream_t stream) {
  rescale_kernel<<<static_cast<unsigned>(functor.rows), nn::RescaleSums<T, S>::kLanes, 0, stream>>>(
      functor, functor.fits_eights());
}

template <typename T>
using QuantizeToInt8 = nn::QuantizeRows<T, int8_t>;
template <typename T>
using QuantizeToFp8 = nn::QuantizeRows<T, __nv_fp8_e4m3>;
template <typename T>
using RescaleInt32 = nn::RescaleSums<T, int32_t>;
template <typename T>
using RescaleFloat32 = nn::RescaleSums<T, float>;

template <template <typename> class Functor, typename T>
int32_t launch_as(const void* functor, void* stream) {
  launch(*static_cast<const Functor<T>*>(functor), static_cast<cudaStream_t>(stream));
  return cudaGetLastError();
}

template <template <typename> class Functor>
int32_t launch_for(Element element, const void* functor, void* stream) {
  switch (element) {
    case Element::kFloat32:
      return launch_as<Functor, float>(functor, stream);
    case Element::kFloat16:
      return launch_as<Functor, __half>(functor, stream);
    case Element::kBFloat16:
      return launch_as<Functor, __nv_bfloat16>(functor, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int32_t modulated_layer_norm(Element element, const void* functor, void* stream) {
  return launch_for<nn::ModulatedLayerNorm>(element, functor, stream);
}

int32_t rms_norm_rope(Element element, const void* functor, void* stream) {
  return launch_for<nn::RMSNormRope>(element, functor, stream);
}

int32_t part_moments(Element element, const void* functor, void* stream) {
  return launch_for<nn::PartMoments>(element, functor, stream);
}

int32_t affine_of_pixels(Element element, const void* functor, void* stream) {
  return launch_for<nn::AffineOfPixels>(element, functor, stream);
}

int32_t quantize_rows_to_int8(Element element, const void* functor, void* stream) {
  return launch_for<QuantizeToInt8>(element, functor, stream);
}

int32_t quantize_rows_to_fp8(Element element, const void* functor, void* stream) {
  return launch_for<QuantizeToFp8>(element, functor, stream);
}

int32_t rescale_int32(Element element, const void* functor, void* stream) {
  return launch_for<RescaleInt32>(element, functor, stream);
}

int32_t rescale_float32(Element element, const void* functor, void* stream) {
  return launch_for<RescaleFloat32>(element, functor, stream);
}

const char* error_text(int32_t error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace opensora::cuda
