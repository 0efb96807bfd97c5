#include "sampling/noise.h"

#include <ATen/CPUGeneratorImpl.h>

namespace opensora::sampling {

at::Tensor make_noise(const LatentShape& shape, uint64_t seed) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn({1, shape.channels, shape.frames, shape.height, shape.width}, generator,
                   at::TensorOptions().dtype(at::kFloat));
}

}  // namespace opensora::sampling
