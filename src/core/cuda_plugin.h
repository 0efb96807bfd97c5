// The optional plug-in libopensora_cuda.so: what only CUDA has. It is opened after libtorch_cuda.so; without it, runs
// on a GPU take LibTorch's own kernels and no graphs.
//
// This header is the plug-in's interface and includes neither ATen nor CUDA.
#pragma once

#include <cstdint>
#include <string>

namespace opensora {

// What the plug-in offers. Functions that return an int32_t return a cudaError_t, 0 for success.
struct CudaPlugin {
  static constexpr int32_t kVersion = 3;  // of this table: another one is not used

  // What a functor's tensors hold.
  enum class Element : int32_t { kFloat32, kFloat16, kBFloat16 };
  // Launches the functor of its name of nn/fused_functors.h, nn/norm_functors.h or nn/quantize_functors.h, made for the
  // element's type, for all of its rows on a cudaStream_t.
  using Launch = int32_t (*)(Element element, const void* functor, void* stream);

  // softmax(scale q k^T) v of numbers in e4m3 (nn/attention_fp8.h). All pointers are to the device's memory; q, k, v
  // and out are dense [batch, tokens, heads, width], out in e4m3 or bf16. The others are one float32 each: what a 1 of
  // q and k stands for, the number 1, by what the softmax's weights are multiplied before they are rounded, and its
  // inverse.
  struct Fp8Attention {
    const void *q, *k, *v;
    const float *q_unit, *k_unit, *one, *weight_scale, *weight_unit;
    void* out;
    bool has_wide_output;
    int64_t batch, heads, queries, keys, width;
    double scale;
  };
  // Of a GPU: none, one that gives e4m3, or one that also gives bf16.
  enum class Fp8Support : int32_t { kNone, kNarrowOutput, kWideOutput };

  int32_t version;
  Launch modulated_layer_norm, rms_norm_rope, part_moments, affine_of_pixels;
  Launch quantize_rows_to_int8, quantize_rows_to_fp8, rescale_int32, rescale_float32;
  const char* (*error_text)(int32_t error);

  // A graph of what is launched on the current stream of the current device between begin and end; that stream must not
  // be the default one. Memory allocated meanwhile is the graph's own until it is destroyed. These throw c10::Error.
  void* (*create_graph)();
  void (*begin_graph)(void* graph, void* shared);  // shared: a graph whose memory it may use too, or null
  void (*end_graph)(void* graph);
  void (*replay_graph)(void* graph);  // on the current stream
  void (*destroy_graph)(void* graph);

  // On the current stream of the current device. Null where the plug-in was built without cuDNN's headers. The first
  // call for a shape builds its plan, so it cannot be recorded; later ones can. Throws c10::Error.
  void (*fp8_attention)(const Fp8Attention& call);
  Fp8Support (*fp8_support)();  // of the current device
};

// The plug-in's only symbol: returns its table.
using GetCudaPlugin = const CudaPlugin* (*)();
inline constexpr const char* kGetCudaPlugin = "opensora_cuda_plugin";

// Opens the plug-in once, from beside the program or an installation's lib/opensora. Call after libtorch_cuda.so is
// open. A plug-in that is there and cannot be used is a warning.
void load_cuda_plugin();

// Null unless it was loaded.
const CudaPlugin* cuda_plugin();

// "loaded", "not built", or what is wrong with it; "built" where it is there and nothing has opened it.
std::string cuda_plugin_state();

}  // namespace opensora
