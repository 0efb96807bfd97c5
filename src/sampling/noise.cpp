#include "sampling/noise.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "core/text.h"
#include "opensora/generate.h"

namespace opensora {

std::optional<int64_t> rng_blocks(std::string_view rng) {
  constexpr std::string_view kNumbered = "cuda:";
  if (rng == "cpu") return 0;
  if (rng == "cuda") return kH100Blocks;
  if (!rng.starts_with(kNumbered)) return std::nullopt;
  const auto blocks = parse_whole<int64_t>(rng.substr(kNumbered.size()));
  return blocks && *blocks >= 1 && *blocks <= kMaxRngBlocks ? blocks : std::nullopt;
}

namespace sampling {
namespace {

constexpr int64_t kThreadsPerBlock = 256;
constexpr int64_t kDraws = 4;  // numbers that a thread draws at a time

uint32_t low(uint64_t x) { return static_cast<uint32_t>(x); }
uint32_t high(uint64_t x) { return static_cast<uint32_t>(x >> 32); }

// The numbers that a thread draws as its `turn`-th four: curand_normal4() of Philox, by the method of Box and Muller.
// Angle and uniform number are rounded to float32 where the GPU rounds them, and what is made of them only once.
std::array<float, kDraws> draw(uint64_t seed, int64_t thread, int64_t turn) {
  constexpr float kUnit = 0x1p-32F, kAngle = 0x1p-32F * 6.2831855F;
  const auto t = static_cast<uint64_t>(thread), n = static_cast<uint64_t>(turn);
  const std::array<uint32_t, 4> bits = philox({low(n), high(n), low(t), high(t)}, {low(seed), high(seed)});
  std::array<float, kDraws> numbers{};
  for (size_t i = 0; i < numbers.size(); i += 2) {
    const double uniform = std::fma(static_cast<float>(bits[i]), kUnit, kUnit / 2);
    const double angle = std::fma(static_cast<float>(bits[i + 1]), kAngle, kAngle / 2);
    const double radius = std::sqrt(-2 * std::log(uniform));
    numbers[i] = static_cast<float>(radius * std::sin(angle));
    numbers[i + 1] = static_cast<float>(radius * std::cos(angle));
  }
  return numbers;
}

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0], product1 = kMultiplier1 * counter[2];
    counter = {high(product1) ^ counter[1] ^ key[0], low(product1), high(product0) ^ counter[3] ^ key[1],
               low(product0)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

at::Tensor cuda_normal(at::IntArrayRef shape, uint64_t seed, int64_t blocks) {
  at::Tensor values = at::empty(shape, at::kFloat);
  auto* const data = values.mutable_data_ptr<float>();
  const int64_t count = values.numel();
  const int64_t needed = (count + kThreadsPerBlock - 1) / kThreadsPerBlock;
  const int64_t threads = std::min(blocks, needed) * kThreadsPerBlock;
  int64_t turn = 0;
  for (int64_t first = 0; first < count; first += kDraws * threads, ++turn) {
    for (int64_t thread = 0; thread < std::min(threads, count - first); ++thread) {
      int64_t at = first + thread;
      for (const float number : draw(seed, thread, turn)) {
        if (at < count) data[at] = number;
        at += threads;
      }
    }
  }
  return values;
}

int64_t find_cuda_blocks(const at::Tensor& values, uint64_t seed) {
  constexpr float kTolerance = 1e-5F;
  const at::Tensor flat = values.contiguous().flatten();
  const auto* const data = flat.const_data_ptr<float>();
  // The second numbers of the first two threads lie behind the first number of the last.
  const float second = draw(seed, 0, 0)[1], neighbour = draw(seed, 1, 0)[1];
  for (int64_t blocks = 1; blocks * kThreadsPerBlock + 1 < flat.numel(); ++blocks) {
    const float* const found = data + blocks * kThreadsPerBlock;
    if (std::abs(found[0] - second) < kTolerance && std::abs(found[1] - neighbour) < kTolerance) return blocks;
  }
  return 0;
}

at::Tensor make_noise(const LatentShape& s, uint64_t seed, const Rng& rng) {
  const std::array<int64_t, 5> shape = {1, s.channels, s.frames, s.height, s.width};
  if (rng.cuda_blocks > 0) return cuda_normal(shape, seed, rng.cuda_blocks).to(rng.dtype).to(at::kFloat);
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(shape, generator, at::TensorOptions().dtype(at::kFloat));
}

}  // namespace sampling
}  // namespace opensora
