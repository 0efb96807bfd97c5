// 8-bit RGB to the planes that video encoders take, with LibTorch's operators: on any device.
#pragma once

#include <ATen/ATen.h>

namespace opensora::pipeline {

// `rgb`: uint8 [H, W, 3]. The result: uint8, one dimension, on its device: the planes Y [h, w], U and V [h/2, w/2] of
// yuv420p one after the other, h and w being H and W rounded up to even (the edge is replicated). BT.709 in limited
// range, chroma sited left: within one level of what media::FrameConverter makes
// from 8 pixels each way on (swscale cuts its filter short for fewer).
at::Tensor to_yuv420p(const at::Tensor& rgb);

}  // namespace opensora::pipeline
