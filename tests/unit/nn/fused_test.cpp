// The fused kernels against the plain path: odd widths, slices of buffers, in place, dtypes with and without a kernel.
#include "nn/fused.h"

#include <gtest/gtest.h>

#include <limits>
#include <utility>

#include "core/meta_device.h"
#include "nn/fused_kernels.h"
#include "support/reference.h"

namespace opensora {
namespace {

constexpr double kEps = 1e-6;

class Fused : public ::testing::TestWithParam<std::tuple<at::ScalarType, int64_t>> {
 protected:
  Fused() { at::manual_seed(1); }

  at::ScalarType dtype() const { return std::get<0>(GetParam()); }
  int64_t width() const { return std::get<1>(GetParam()); }
  at::Tensor random(at::IntArrayRef shape) const { return at::randn(shape).to(dtype()); }
  // Tokens 2 to 6 of a buffer of 9, columns 3 to 3 + C of it.
  at::Tensor slice_of(const at::Tensor& buffer) const { return buffer.narrow(1, 2, 5).narrow(2, 3, width()); }
  // One rounding to the dtype; the plain path has several.
  double tolerance() const { return dtype() == at::kFloat ? 2e-6 : 0.04; }

  nn::RotaryEmbedding rope(int64_t length, bool rotate_half) const {
    const at::Tensor angles = at::randn({length, width() / 2}) * 3;
    return {angles.cos(), angles.sin(), rotate_half};
  }
};

TEST_P(Fused, ModulatedLayerNormIsThePlainOne) {
  const at::Tensor x = random({2, 9, width() + 7}) * 3 + 1, shift = random({2, 6, width()});
  const at::Tensor mods = shift.narrow(1, 2, 1), scale = shift.narrow(1, 4, 1);  // as chunks of one matrix product
  const at::Tensor out = at::zeros_like(x), expected = at::zeros_like(x);
  nn::modulated_layer_norm(slice_of(out), slice_of(x), mods, scale, kEps);
  nn::plain::modulated_layer_norm(slice_of(expected), slice_of(x), mods, scale, kEps);
  EXPECT_TRUE(test::close(out, expected.to(at::kFloat), tolerance(), tolerance()));  // and zero outside the slice
  EXPECT_GT(out.abs().max().item<float>(), 1);
}

TEST_P(Fused, RMSNormWithRopeIsThePlainOne) {
  for (const bool rotate_half : {true, false}) {
    const at::Tensor x = random({2, 9, 4 * 2 * width()}) * 3, scale = random({width()});
    const auto heads = [&](const at::Tensor& buffer) {  // two heads in the middle of a row
      return buffer.narrow(1, 1, 7).narrow(2, 2 * width(), 2 * width()).unflatten(2, {2, width()});
    };
    const nn::RotaryEmbedding pe = rope(9, rotate_half).slice(1, 7);
    const at::Tensor out = x.clone(), expected = x.clone();
    nn::rms_norm_rope(heads(out), heads(out), scale, pe, kEps);  // in place
    nn::plain::rms_norm_rope(heads(expected), heads(x), scale, pe, kEps);
    EXPECT_TRUE(test::close(out, expected.to(at::kFloat), tolerance(), tolerance())) << "rotate_half " << rotate_half;
    EXPECT_GT((heads(out) - heads(x)).abs().max().item<float>(), 1);
  }
}

TEST_P(Fused, GatedSumIsThePlainOne) {
  const at::Tensor x = random({2, 9, width() + 7}), y = random({2, 5, width()}), gate = random({2, 1, width()});
  at::Tensor sum = x.clone();
  nn::add_gated(slice_of(sum), gate, y);
  const at::Tensor expected = slice_of(x) + gate * y;
  EXPECT_TRUE(test::close(slice_of(sum), expected.to(at::kFloat), tolerance(), tolerance()));
  slice_of(sum).copy_(slice_of(x));
  EXPECT_TRUE(at::equal(sum, x));
}

TEST_P(Fused, GeluIsThePlainOne) {
  const at::Tensor x = random({2, 9, width() + 7}) * 4;
  const at::Tensor actual = x.clone(), expected = x.clone();
  nn::gelu_tanh(slice_of(actual));
  nn::plain::gelu_tanh(slice_of(expected));
  EXPECT_TRUE(test::close(actual, expected.to(at::kFloat), tolerance(), tolerance()));
  EXPECT_FALSE(at::equal(actual, x));
}

INSTANTIATE_TEST_SUITE_P(Kernels, Fused,
                         ::testing::Combine(::testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                                            ::testing::Values(2, 34, 64, 250)),
                         [](const auto& info) {
                           return std::string(c10::toString(std::get<0>(info.param))) +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST(FusedKernels, GeluHoldsOverAllMagnitudes) {
  const at::Tensor x =
      at::cat({at::linspace(-100, 100, 200001), at::logspace(-30, 3, 1000), -at::logspace(-30, 3, 1000)});
  const at::Tensor actual = x.clone();
  nn::gelu_tanh(actual.view({1, 1, -1}));
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor error = (actual.to(at::kDouble) - at::gelu(wide, "tanh")).abs();
  EXPECT_LE((error - 4e-7 * wide.abs()).max().item<double>(), 0);
}

TEST(FusedKernels, WhatIsNotFiniteStaysSo) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = at::zeros({1, 2, 64}, dtype);
    x.select(1, 0).fill_(std::numeric_limits<float>::quiet_NaN());
    const at::Tensor normed = at::empty_like(x), shift = at::zeros({1, 1, 64}, dtype);
    nn::modulated_layer_norm(normed, x, shift, shift, kEps);
    nn::gelu_tanh(x);
    for (const at::Tensor& y : {x, normed}) {
      EXPECT_TRUE(y.select(1, 0).isnan().all().item<bool>());
      EXPECT_FALSE(y.select(1, 1).isnan().any().item<bool>());
    }
  }
}

TEST(FusedKernels, TheCpuHasFloatAndBFloat16) {
  const nn::FusedKernels kernels = nn::cpu_kernels();
  const at::Tensor x = at::randn({1, 3, 8}), shift = at::randn({1, 1, 8});
  for (const auto& [dtype, known] :
       {std::pair(at::kFloat, true), std::pair(at::kBFloat16, true), std::pair(at::kHalf, false)}) {
    const at::Tensor out = at::zeros({1, 3, 8}, dtype);
    EXPECT_EQ(kernels.modulated_layer_norm(out, x.to(dtype), shift.to(dtype), shift.to(dtype), kEps), known);
    EXPECT_EQ(out.any().item<bool>(), known);  // nothing done where false
  }
  EXPECT_FALSE(kernels.modulated_layer_norm(at::empty({1, 3, 8}), x, shift, shift.to(at::kHalf), kEps));
}

TEST(FusedKernels, ADevicesKernelIsCalledWhereItHasOne) {
  static int calls;
  calls = 0;
  nn::FusedKernels& kernels = nn::fused_kernels(at::kCPU);
  const nn::FusedKernels before = kernels;
  const at::Tensor x = at::randn({1, 3, 8}), shift = at::randn({1, 1, 8}), expected = at::empty_like(x);
  nn::plain::modulated_layer_norm(expected, x, shift, shift, kEps);
  kernels.modulated_layer_norm = [](const at::Tensor& out, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                    double) {
    out.fill_(7);
    return ++calls == 1;  // the second call finds no kernel
  };
  const at::Tensor by_kernel = at::empty_like(x), by_refusal = at::empty_like(x), without = at::empty_like(x);
  nn::modulated_layer_norm(by_kernel, x, shift, shift, kEps);
  nn::modulated_layer_norm(by_refusal, x, shift, shift, kEps);
  kernels.modulated_layer_norm = nullptr;
  nn::modulated_layer_norm(without, x, shift, shift, kEps);
  kernels = before;
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE((by_kernel == 7).all().item<bool>());
  EXPECT_TRUE(at::equal(by_refusal, expected));
  EXPECT_TRUE(at::equal(without, expected));
}

TEST(FusedKernels, ColumnsThatAreNotDenseTakeThePlainPath) {
  const at::Tensor x = at::randn({1, 8, 3}).transpose(1, 2), shift = at::randn({1, 1, 8});
  const at::Tensor out = at::empty({1, 3, 8}), expected = at::empty({1, 3, 8});
  nn::modulated_layer_norm(out, x, shift, shift, kEps);
  nn::plain::modulated_layer_norm(expected, x.contiguous(), shift, shift, kEps);
  EXPECT_TRUE(test::close(out, expected, 2e-6, 2e-6));
}

TEST(FusedKernels, ThePlainPathTakesSomeTokensAtATime) {
  // 5,461 tokens of a float32 copy of 32 MiB at a time, so twice and a rest.
  const at::Tensor x = at::randn({1, 12000, 3, 512}), scale = at::randn({512}), angles = at::randn({12000, 256});
  const nn::RotaryEmbedding rope{angles.cos(), angles.sin(), true};
  const at::Tensor out = at::empty_like(x);
  nn::plain::rms_norm_rope(out, x, scale, rope, kEps);
  for (const auto& [first, count] : {std::pair(0, 1), std::pair(5460, 3), std::pair(11999, 1)}) {
    const at::Tensor expected = at::empty({1, count, 3, 512});
    nn::plain::rms_norm_rope(expected, x.narrow(1, first, count), scale, rope.slice(first, count), kEps);
    EXPECT_TRUE(at::equal(out.narrow(1, first, count), expected)) << first;
  }
}

// The highest memory of a plan's norms of 76,544 tokens, in MiB.
double planned_mebibytes(at::DeviceType device, at::ScalarType dtype) {
  MetaDevice plan{at::Device(device)};
  const auto options = at::TensorOptions().device(at::kMeta);
  const at::Tensor x = at::empty({1, 76544, 24, 128}, options.dtype(dtype));
  const at::Tensor scale = at::empty({128}, options.dtype(dtype)), angles = at::empty({76544, 64}, options);
  const at::Tensor modulation = at::empty({1, 1, 3072}, options.dtype(dtype));
  const int64_t held = plan.live_bytes();
  plan.reset_peak();
  nn::rms_norm_rope(x, x, scale, {angles, angles, true}, kEps);
  nn::modulated_layer_norm(x.flatten(2), x.flatten(2), modulation, modulation, kEps);
  return static_cast<double>(plan.peak_bytes() - held) / (1 << 20);
}

TEST(FusedKernels, APlanCountsThePlainPathWhereItRuns) {
  EXPECT_EQ(planned_mebibytes(at::kCPU, at::kBFloat16), 0);
  const double plain = planned_mebibytes(at::kCPU, at::kHalf);
  EXPECT_GT(plain, 64);
  EXPECT_LT(plain, 300) << "where a float32 copy of all tokens takes 897";
}

TEST(FusedKernels, ShapesAreAllOnTheMetaDevice) {
  const auto meta = at::TensorOptions().device(at::kMeta);
  const at::Tensor x = at::empty({1, 3, 2, 8}, meta);
  nn::rms_norm_rope(x, x, at::empty({8}, meta), {at::empty({3, 4}, meta), at::empty({3, 4}, meta), true}, kEps);
  nn::modulated_layer_norm(x.flatten(2), x.flatten(2), at::empty({1, 1, 16}, meta), at::empty({1, 1, 16}, meta), kEps);
  nn::gelu_tanh(x.flatten(2));
}

}  // namespace
}  // namespace opensora
