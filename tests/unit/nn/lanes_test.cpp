// The fused functors as a GPU runs them, with simulated lanes: against one lane, and in the trial that a GPU's kernels
// must pass before they are used.
#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "nn/conv.h"
#include "nn/fused.h"
#include "nn/fused_kernels.h"
#include "nn/norm.h"
#include "nn/norm_kernels.h"
#include "nn/quantize_kernels.h"
#include "nn/quantized_product.h"
#include "nn/vectors.h"
#include "support/reference.h"
#include "support/simulated_lanes.h"

namespace opensora {
namespace {

using nn::BFloat16;
using test::run_lanes;
using test::SimulatedLane;

constexpr double kLaneEps = 1e-6;
constexpr int kWarp = 32;

// How a GPU would run a functor, by kernels.cu.
enum class Way { kAt, kInRegisters };

template <typename T>
void run(const nn::ModulatedLayerNorm<T>& functor, Way way) {
  const bool in_registers = way == Way::kInRegisters;
  run_lanes(in_registers ? functor.kLanes : kWarp, [&](const SimulatedLane& lane) {
    for (int64_t b = 0; b < functor.items; ++b) {
      for (int64_t l = 0; l < functor.length; ++l) {
        in_registers ? functor.in_registers(b, l, lane) : functor.at(b, l, lane);
      }
    }
  });
}

template <typename T>
void run(const nn::RMSNormRope<T>& functor, Way way) {
  const bool in_registers = way == Way::kInRegisters;
  constexpr int kGroups = 2;  // that share the heads of a token
  for (int group = 0; group < kGroups; ++group) {
    run_lanes(in_registers ? functor.kLanes : kWarp, [&](const SimulatedLane& lane) {
      for (int64_t row = 0; row < functor.items * functor.length; ++row) {
        const int64_t b = row / functor.length, l = row % functor.length;
        if (in_registers) functor.in_registers(b, l, group, kGroups, lane);
        for (int64_t h = group; h < functor.heads && !in_registers; h += kGroups) functor.at(b, l, h, lane);
      }
    });
  }
}

template <typename Functor>
void run_with_one_lane(const Functor& functor, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) functor(row, nn::OneLane());
}

template <typename Functor>
void run_rows(const Functor& functor) {
  run_lanes(functor.kLanes, [&](const SimulatedLane& lane) {
    for (int64_t row = 0; row < functor.rows; ++row) {
      functor.fits_eights() ? functor.in_eights(row, lane) : functor(row, lane);
    }
  });
}

// Calls work(T()) for the element type of a tensor.
template <typename Work>
auto with_element(at::ScalarType dtype, Work&& work) {
  if (dtype == at::kFloat) return work(float());
  if (dtype == at::kHalf) return work(at::Half());
  return work(BFloat16());
}

Way way_of(bool fits_registers) { return fits_registers ? Way::kInRegisters : Way::kAt; }

// What a GPU's kernels do, with lanes of the CPU.
nn::FusedKernels kernels_of_lanes() {
  return {
      .modulated_layer_norm =
          [](const at::Tensor& out, const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale, double eps) {
            with_element(out.scalar_type(), [&](auto element) {
              const auto functor = nn::modulated_layer_norm_of<decltype(element)>(out, x, shift, scale, eps);
              run(functor, way_of(functor.fits_registers()));
            });
            return true;
          },
      .rms_norm_rope =
          [](const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale, const nn::RotaryEmbedding& rope,
             double eps) {
            with_element(out.scalar_type(), [&](auto element) {
              const auto functor = nn::rms_norm_rope_of<decltype(element)>(out, x, scale, rope, eps);
              run(functor, way_of(functor.fits_registers()));
            });
            return true;
          },
      .quantize_rows =
          [](const at::Tensor& q, const at::Tensor& scale, const at::Tensor& x) {
            with_element(x.scalar_type(), [&](auto element) {
              using T = decltype(element);
              if (q.scalar_type() == at::kChar) {
                run_rows(nn::quantize_rows_of<T, int8_t>(q, scale, x));
              } else {
                run_rows(nn::quantize_rows_of<T, at::Float8_e4m3fn>(q, scale, x));
              }
            });
            return true;
          },
      .rescale_sums =
          [](const at::Tensor& out, const at::Tensor& sums, const at::Tensor& row_scale, const at::Tensor& column_scale,
             const at::Tensor& bias, double scale, nn::Ending ending) {
            with_element(out.scalar_type(), [&](auto element) {
              using T = decltype(element);
              if (sums.scalar_type() == at::kInt) {
                run_rows(nn::rescale_sums_of<T, int32_t>(out, sums, row_scale, column_scale, bias, scale, ending));
              } else {
                run_rows(nn::rescale_sums_of<T, float>(out, sums, row_scale, column_scale, bias, scale, ending));
              }
            });
            return true;
          },
      .group_moments =
          [](const at::Tensor& x, const at::Tensor& mean, const at::Tensor& variance) {
            if (!nn::has_part_moments(x, mean.size(1))) return false;
            const at::Tensor parts = nn::empty_parts(x, mean.size(1));
            with_element(x.scalar_type(), [&](auto element) {
              const auto functor = nn::part_moments_of<decltype(element)>(x, parts);
              for (int64_t b = 0; b < functor.items; ++b) {
                for (int slice = 0; slice < functor.slices; ++slice) {
                  for (int lane = 0; lane < nn::PixelLane::kLanes; ++lane) functor(b, slice, lane);
                }
              }
            });
            nn::join_parts(parts, mean, variance);
            return true;
          },
      .channel_affine =
          [](const at::Tensor& out, const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift,
             bool with_silu) {
            if (!nn::has_pixel_lanes(out) || !nn::has_pixel_lanes(x)) return false;
            with_element(out.scalar_type(), [&](auto element) {
              const auto functor = nn::affine_of<decltype(element)>(out, x, scale, shift, with_silu);
              for (int64_t row = 0; row < functor.items * functor.frames * functor.height; ++row) {
                const int64_t h = row % functor.height, t = row / functor.height % functor.frames;
                for (int lane = 0; lane < nn::PixelLane::kLanes; ++lane) {
                  functor(row / functor.height / functor.frames, t, h, lane);
                }
              }
            });
            return true;
          }};
}

TEST(Lanes, KernelsMadeOfThemPassTheTrial) {
  int trials = 0;
  for (const nn::KernelTrial& trial : nn::try_kernels(kernels_of_lanes(), at::kCPU)) {
    EXPECT_TRUE(trial.has_one && trial.agrees())
        << trial.kernel << " " << trial.dtype << ": " << trial.error << " " << trial.problem;
    ++trials;
  }
  EXPECT_EQ(trials, 6 * 3) << "six kernels in three dtypes";
}

// Columns in the middle of a buffer, aligned to vectors where the width is.
at::Tensor middle(const at::Tensor& buffer) { return buffer.narrow(2, buffer.size(2) / 3, buffer.size(2) / 3); }

class LanesOfWidth : public ::testing::TestWithParam<int64_t> {
 protected:
  LanesOfWidth() { at::manual_seed(3); }

  // One lane adds up all of a row in one float.
  double tolerance() const { return GetParam() > 1000 ? 5e-6 : 2e-6; }
};

TEST_P(LanesOfWidth, MakeTheLayerNormOfOneLaneInPlace) {
  const int64_t width = GetParam();
  const at::Tensor x = at::randn({2, 3, 3 * width}) * 3 + 1, modulation = at::randn({2, 2, width});
  const auto functor_on = [&](const at::Tensor& buffer) {
    return nn::modulated_layer_norm_of<float>(middle(buffer), middle(buffer), modulation.narrow(1, 0, 1),
                                              modulation.narrow(1, 1, 1), kLaneEps);
  };
  const at::Tensor expected = x.clone(), by_warp = x.clone(), by_block = x.clone();
  run_with_one_lane(functor_on(expected), 6);
  run(functor_on(by_warp), Way::kAt);
  EXPECT_TRUE(test::close(by_warp, expected, tolerance(), tolerance()));
  EXPECT_EQ(functor_on(by_block).fits_registers(), width % 8 == 0);
  if (width % 8 != 0) return;
  run(functor_on(by_block), Way::kInRegisters);
  EXPECT_TRUE(test::close(by_block, expected, tolerance(), tolerance()));
  EXPECT_GT((by_block - x).abs().max().item<float>(), 1);
}

TEST_P(LanesOfWidth, MakeTheRopeOfOneLaneInPlace) {
  const int64_t width = GetParam(), heads = 3;
  const at::Tensor x = at::randn({2, 3, 3 * heads * width}) * 3, scale = at::randn({width});
  const at::Tensor angles = at::randn({3, width / 2}) * 3;
  for (const bool rotate_half : {true, false}) {
    const nn::RotaryEmbedding rope{angles.cos(), angles.sin(), rotate_half};
    const auto functor_on = [&](const at::Tensor& buffer) {
      const at::Tensor y = middle(buffer).unflatten(2, {heads, width});
      return nn::rms_norm_rope_of<float>(y, y, scale, rope, kLaneEps);
    };
    const at::Tensor expected = x.clone(), by_warp = x.clone(), by_eights = x.clone();
    run_with_one_lane(functor_on(expected), 18);
    run(functor_on(by_warp), Way::kAt);
    EXPECT_TRUE(test::close(by_warp, expected, tolerance(), tolerance()));
    EXPECT_EQ(functor_on(by_eights).fits_registers(), width % 16 == 0 && width <= 128);
    if (!functor_on(by_eights).fits_registers()) continue;
    run(functor_on(by_eights), Way::kInRegisters);
    EXPECT_TRUE(test::close(by_eights, expected, tolerance(), tolerance())) << "rotate_half " << rotate_half;
    EXPECT_GT((by_eights - x).abs().max().item<float>(), 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Widths, LanesOfWidth, ::testing::Values(3072, 128, 114, 64, 38, 24),
                         [](const auto& info) { return std::to_string(info.param); });

TEST_P(LanesOfWidth, RoundRowsToTheNumbersOfOneLane) {
  const int64_t width = GetParam();
  const at::Tensor x = at::randn({3, 3 * width}).narrow(1, width, width) * 3;
  for (const at::ScalarType dtype : {at::kChar, at::kFloat8_e4m3fn}) {
    const at::Tensor q = at::empty(x.sizes(), x.options().dtype(dtype)), expected = at::empty_like(q);
    const at::Tensor scale = at::empty({3}), expected_scale = at::empty({3});
    ASSERT_TRUE(kernels_of_lanes().quantize_rows(q, scale, x));
    nn::plain::quantize_rows(expected, expected_scale, x);
    EXPECT_TRUE(at::equal(q.to(at::kFloat), expected.to(at::kFloat))) << dtype;
    EXPECT_TRUE(at::equal(scale, expected_scale)) << dtype;
    EXPECT_EQ(q.to(at::kFloat).abs().max().item<float>(), nn::largest_number(dtype));
  }
}

TEST(Lanes, TakeEightsOnlyWhereTheyAreAligned) {
  const at::Tensor buffer = at::zeros({1, 2, 64}), modulation = at::zeros({1, 1, 32});
  const auto fits = [&](int64_t first, int64_t width) {
    const at::Tensor y = buffer.narrow(2, first, width), m = modulation.narrow(2, 0, width);
    return nn::modulated_layer_norm_of<float>(y, y, m, m, kLaneEps).fits_registers();
  };
  EXPECT_TRUE(fits(8, 32));
  EXPECT_FALSE(fits(9, 32)) << "begins in the middle of 128 bits";
  EXPECT_FALSE(fits(8, 28));
  const at::Tensor uneven = at::zeros({1, 2, 36}).narrow(2, 0, 32);
  EXPECT_FALSE(nn::modulated_layer_norm_of<float>(uneven, uneven, modulation, modulation, kLaneEps).fits_registers())
      << "its second row does";
  const at::Tensor wide = at::zeros({1, 1, 3080});
  EXPECT_FALSE(nn::modulated_layer_norm_of<float>(wide, wide, wide, wide, kLaneEps).fits_registers());
}

// Frames [2, C, 3, 6, W] inside of larger ones.
at::Tensor frames_inside(int64_t channels, int64_t width, at::ScalarType dtype = at::kFloat) {
  const at::Tensor whole = nn::empty_channels_last(at::empty({0}, dtype), {2, channels, 3, 8, width + 2});
  whole.copy_(at::randn(whole.sizes()));
  return whole.narrow(3, 1, 6).narrow(4, 1, width);
}

TEST(Lanes, GroupMomentsAreTheExactOnes) {
  at::manual_seed(4);
  // Channels, groups: groups that are parts of a lane's eight channels, all of them, and several lanes'.
  for (const auto& [channels, groups] : {std::pair<int64_t, int64_t>(32, 32), {32, 8}, {256, 32}, {96, 3}, {512, 32}}) {
    // With a mean in whose squares float32 would lose the variance.
    const at::Tensor x = frames_inside(channels, 5).add_(300);
    const at::Tensor mean = at::empty({2, groups}), variance = at::empty({2, groups});
    ASSERT_TRUE(kernels_of_lanes().group_moments(x, mean, variance)) << channels;
    const at::Tensor wide = x.to(at::kDouble).reshape({2, groups, -1});
    EXPECT_TRUE(test::close(mean, wide.mean(-1).to(at::kFloat), 1e-6, 1e-6)) << channels << ", " << groups;
    EXPECT_TRUE(test::close(variance, wide.var(-1, /*unbiased=*/false).to(at::kFloat), 1e-4, 1e-4)) << channels;
  }
}

TEST(Lanes, GroupMomentsThatDoNotFitAreLeft) {
  EXPECT_TRUE(nn::has_part_moments(frames_inside(16, 5), 4));
  EXPECT_FALSE(nn::has_part_moments(frames_inside(12, 5), 4)) << "12 channels are no eights";
  EXPECT_FALSE(nn::has_part_moments(frames_inside(24, 5), 2)) << "nor are a group's 12";
  EXPECT_FALSE(nn::has_part_moments(at::zeros({2, 16, 3, 6, 5}), 4)) << "channels lie outermost";
  EXPECT_FALSE(nn::has_part_moments(frames_inside(4096, 1), 4)) << "more than the lanes have";
}

TEST(Lanes, AffineOfPixelsIsThePlainOneInPlace) {
  at::manual_seed(5);
  for (const auto& [dtype, tolerance] :
       {std::pair(at::kFloat, 2e-6), std::pair(at::kBFloat16, 0.01), std::pair(at::kHalf, 0.002)}) {
    const at::Tensor x = frames_inside(96, 30, dtype), expected = nn::empty_channels_last(x, x.sizes());
    const nn::ChannelAffine affine{at::randn({2, 96}), at::randn({2, 96})};
    nn::plain::apply_affine(x, affine, expected, /*with_silu=*/true);
    ASSERT_TRUE(kernels_of_lanes().channel_affine(x, x, affine.scale, affine.shift, /*with_silu=*/true));
    EXPECT_TRUE(test::close(x, expected.to(at::kFloat), tolerance, tolerance)) << dtype;
  }
}

// In float16, for which the CPU has no loops of its own.
TEST(Lanes, GroupNormTakesADevicesKernels) {
  at::manual_seed(6);
  nn::GroupNorm norm(Weights(std::make_shared<MetaSource>(), at::kMeta, at::kHalf), 32, 4, kLaneEps);
  norm.weight = at::randn({32}).to(at::kHalf);
  norm.bias = at::randn({32}).to(at::kHalf);
  const at::Tensor x = frames_inside(32, 9, at::kHalf), expected = nn::empty_channels_last(x, x.sizes());
  nn::apply_affine_silu(x, norm.affine(x), expected);

  static int calls;
  calls = 0;
  nn::FusedKernels& kernels = nn::fused_kernels(at::kCPU);
  const nn::FusedKernels before = kernels;
  kernels.group_moments = [](const at::Tensor& y, const at::Tensor& mean, const at::Tensor& variance) {
    ++calls;
    return kernels_of_lanes().group_moments(y, mean, variance);
  };
  kernels.channel_affine = [](const at::Tensor& out, const at::Tensor& y, const at::Tensor& scale,
                              const at::Tensor& shift, bool with_silu) {
    ++calls;
    return kernels_of_lanes().channel_affine(out, y, scale, shift, with_silu);
  };
  const at::Tensor actual = nn::empty_channels_last(x, x.sizes());
  nn::apply_affine_silu(x, norm.affine(x), actual);
  kernels = before;
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(test::close(actual, expected.to(at::kFloat), 0.002, 0.002));
  EXPECT_TRUE(test::close(expected, at::silu(norm(x.contiguous())).to(at::kFloat), 0.02, 0.02));
}

}  // namespace
}  // namespace opensora
