#include "io/random_source.h"

#include <algorithm>

#include "io/random_checkpoint.h"

namespace opensora::io {

std::optional<at::Tensor> RandomSource::find(const std::string& name, at::IntArrayRef expected_shape) const {
  const MetaSource::Entry entry{name, expected_shape.vec()};
  const int64_t count = c10::multiply_integers(expected_shape);
  at::Tensor tensor = at::empty({count}, dtype_);
  for (int64_t begin = 0; begin < count; begin += kRandomPiece) {
    const int64_t end = std::min(count, begin + kRandomPiece);
    tensor.slice(0, begin, end).copy_(random_piece(entry, /*seed=*/0, begin, end));
  }
  return tensor.view(expected_shape);
}

}  // namespace opensora::io
