// Noise as CUDA's generator draws it, against values that others published.
#include "sampling/noise.h"

#include <gtest/gtest.h>

#include <array>
#include <utility>
#include <vector>

#include "opensora/generate.h"
#include "sampling/sampler.h"
#include "support/reference.h"

namespace opensora::sampling {
namespace {

using test::close;

// What a GPU's approximate sines and four decimals in print allow.
constexpr double kGpu = 2e-6, kPrinted = 5.1e-5;

using Words = std::array<uint32_t, 4>;

// The known answers of Random123 1.14, the authors' own implementation (tests/kat_vectors, "philox4x32 10").
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// modules/rng_philox.py of stable-diffusion-webui says this of seed 0; src/rng_philox.hpp of stable-diffusion.cpp is
// made after it.
TEST(CudaNoise, IsStableDiffusionWebuis) {
  EXPECT_TRUE(close(cuda_normal({3, 4}, 0, kH100Blocks),
                    at::tensor({-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122,
                                -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497},
                               at::kFloat)
                        .view({3, 4}),
                    kGpu, 0));
}

// Printed on GPUs: torch.manual_seed(42), torch.randn(2, 5, device="cuda") in the documentation of FlashInfer's
// LogitsPipe; and the ends of the first and tenth row of torch.randn((1823, 781), device="cuda") in a tutorial.
TEST(CudaNoise, IsWhatGpusPrint) {
  EXPECT_TRUE(close(
      cuda_normal({2, 5}, 42, kH100Blocks),
      at::tensor({0.1940, 2.1614, -0.1721, 0.8491, -1.9244, 0.6530, -0.6494, -0.8175, 0.5280, -1.2753}, at::kFloat)
          .view({2, 5}),
      kPrinted, 0));
  const at::Tensor many = cuda_normal({1823, 781}, 42, kH100Blocks);
  EXPECT_TRUE(close(many[0].slice(0, 778), at::tensor({-0.8353, -1.6443, 0.1315}, at::kFloat), kPrinted, 0));
  EXPECT_TRUE(close(many[9].slice(0, 778), at::tensor({-0.2081, -1.0439, 0.7082}, at::kFloat), kPrinted, 0));
}

// Where there are more elements than threads: computed with the functions of cuRAND 10.4 compiled for the host, in the
// loop of LibTorch's kernel, by two blocks.
TEST(CudaNoise, ThreadsGoOnWhereOthersEnd) {
  const at::Tensor values = cuda_normal({3000}, 42, 2);
  const std::vector<std::pair<int64_t, double>> expected = {
      {0, 0.1940189},    {511, -0.8599699}, {512, -0.9701898}, {1023, -1.333837},   {1024, 1.923927},
      {1536, -1.235621}, {2047, 1.297832},  {2048, 0.1391376}, {2560, -0.07318153}, {2999, -1.335359}};
  for (const auto& [at, value] : expected) EXPECT_NEAR(values[at].item<float>(), value, kGpu) << at;
  const at::Tensor long_seed = cuda_normal({6}, (uint64_t{1} << 40) + 7, 2);
  EXPECT_TRUE(close(long_seed,
                    at::tensor({-0.4790492, -1.278251, -0.2415663, -0.3849995, 0.2795231, -0.6023301}, at::kFloat),
                    kGpu, 0));
}

TEST(CudaNoise, TheBlocksAreFoundInIt) {
  for (const int64_t blocks : {1, 3, 7}) EXPECT_EQ(find_cuda_blocks(cuda_normal({2, 4000}, 5, blocks), 5), blocks);
  EXPECT_EQ(find_cuda_blocks(cuda_normal({8000}, 5, 3), 6), 0);
  EXPECT_EQ(find_cuda_blocks(cuda_normal({8000}, 5, 100), 5), 0) << "more threads than elements";
  EXPECT_EQ(find_cuda_blocks(cuda_normal({10}, 5, 1), 5), 0);
}

TEST(CudaNoise, IsRoundedToTheDtype) {
  const LatentShape shape{.channels = 2, .frames = 3, .height = 4, .width = 6};
  const at::Tensor exact = make_noise(shape, 9, {.cuda_blocks = 1}), rounded = make_noise(shape, 9, {1, at::kBFloat16});
  EXPECT_EQ(exact.sizes(), (std::vector<int64_t>{1, 2, 3, 4, 6}));
  EXPECT_EQ(rounded.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(rounded, exact.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_FALSE(at::equal(rounded, exact));
}

TEST(CudaNoise, BlocksAreInTheName) {
  EXPECT_EQ(rng_blocks("cpu"), 0);
  EXPECT_EQ(rng_blocks("cuda"), 1056);
  EXPECT_EQ(rng_blocks("cuda:864"), 864);
  for (const char* name : {"", "CPU", "cuda:", "cuda:0", "cuda:-1", "cuda:65536", "cuda:1.5", "cuda:12 "}) {
    EXPECT_EQ(rng_blocks(name), std::nullopt) << name;
  }
}

// In bfloat16 0.725 is 0.7265625, and 726.5625 is 728.
TEST(TimestepRounding, IsTheOfficialCodes) {
  const auto embedded = [](const char* word, at::ScalarType dtype) {
    return 1000 * rounded_times(at::full({1}, 0.725, at::kFloat), parse_timestep_rounding(word), dtype).item<float>();
  };
  EXPECT_FLOAT_EQ(embedded("none", at::kBFloat16), 725.0F);
  EXPECT_FLOAT_EQ(embedded("official", at::kBFloat16), 726.5625F);
  EXPECT_FLOAT_EQ(embedded("eager", at::kBFloat16), 728.0F);
  EXPECT_FLOAT_EQ(embedded("eager", at::kFloat), 725.0F);
}

}  // namespace
}  // namespace opensora::sampling
