// What the plug-in's table points to.
#pragma once

#include "core/cuda_plugin.h"

namespace opensora::cuda {

int32_t modulated_layer_norm(CudaPlugin::Element element, const void* functor, void* stream);
int32_t rms_norm_rope(CudaPlugin::Element element, const void* functor, void* stream);
int32_t part_moments(CudaPlugin::Element element, const void* functor, void* stream);
int32_t affine_of_pixels(CudaPlugin::Element element, const void* functor, void* stream);
int32_t quantize_rows_to_int8(CudaPlugin::Element element, const void* functor, void* stream);
int32_t quantize_rows_to_fp8(CudaPlugin::Element element, const void* functor, void* stream);
int32_t rescale_int32(CudaPlugin::Element element, const void* functor, void* stream);
int32_t rescale_float32(CudaPlugin::Element element, const void* functor, void* stream);
const char* error_text(int32_t error);

// attention_fp8.cpp's.
void fp8_attention(const CudaPlugin::Fp8Attention& call);
CudaPlugin::Fp8Support fp8_support();

}  // namespace opensora::cuda
