#include "io/random_checkpoint.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "io/safetensors.h"

namespace opensora::io {
namespace {

// One step of splitmix64: any thread can make the draw of any number.
uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// FNV-1a, since std::hash may differ between libraries.
uint64_t hash_of(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001b3;
  return hash;
}

// A tensor's numbers are drawn from centre - radius to centre + radius.
float centre_of(const MetaSource::Entry& tensor) {
  return tensor.shape.size() < 2 && !tensor.name.ends_with("bias") ? 1.0F : 0.0F;
}
float radius_of(const MetaSource::Entry& tensor) {
  constexpr float kSmall = 0.02F;
  if (tensor.shape.size() < 2) return kSmall;
  const int64_t inputs = c10::multiply_integers(tensor.shape) / std::max<int64_t>(tensor.shape.front(), 1);
  return std::sqrt(3.0F / static_cast<float>(std::max<int64_t>(inputs, 1)));  // for a variance of 1 / inputs
}

}  // namespace

at::Tensor random_piece(const MetaSource::Entry& tensor, uint64_t seed, int64_t begin, int64_t end) {
  const float centre = centre_of(tensor), radius = radius_of(tensor);
  const uint64_t stream = mixed(seed ^ hash_of(tensor.name));
  at::Tensor piece = at::empty({end - begin}, at::kFloat);
  auto* const out = piece.mutable_data_ptr<float>();
  constexpr int64_t kGrain = 1 << 16;
  at::parallel_for(0, end - begin, kGrain, [&](int64_t from, int64_t to) {
    constexpr float kUnit = 0x1p-23F;
    for (int64_t i = from; i < to; ++i) {
      const auto draw = static_cast<int32_t>(mixed(stream + static_cast<uint64_t>(begin + i)) >> 40);  // 24 bits
      out[i] = centre + radius * (static_cast<float>(draw) * kUnit - 1.0F);
    }
  });
  return piece;
}

void write_random_checkpoint(const std::filesystem::path& path, const std::vector<MetaSource::Entry>& tensors,
                             at::ScalarType dtype, uint64_t seed, bool overwrite) {
  std::vector<MetaSource::Entry> entries = tensors;
  for (MetaSource::Entry& entry : entries) entry.dtype = dtype;
  const auto make = [&](size_t i, const WritePiece& write) {
    const int64_t count = c10::multiply_integers(tensors[i].shape);
    for (int64_t begin = 0; begin < count; begin += kRandomPiece) {
      write(random_piece(tensors[i], seed, begin, std::min(count, begin + kRandomPiece)).to(dtype));
    }
  };
  write_safetensors(path, entries, make, {{"format", "pt"}}, overwrite);
}

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
