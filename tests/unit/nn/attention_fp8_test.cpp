// Attention in 8 bits, emulated: what it is off by, and that a sampling takes no kernel on trust.
#include "nn/attention_fp8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "nn/attention.h"
#include "support/contains.h"
#include "support/log_capture.h"
#include "support/reference.h"

namespace opensora {
namespace {

using nn::Fp8Attention;
using nn::Fp8Operands;
using test::relative_error;

constexpr int64_t kFp8Heads = 3, kFp8Tokens = 700, kFp8Width = 64;  // more tokens than the emulation takes at once
constexpr nn::StepRange kAllFp8Steps = {.first = 0, .end = 9};

// As models have them: [B, H, L, D] by strides over [B, L, H, D], keys with much in common, and each query with a key
// of its own.
struct Fp8Inputs {
  at::Tensor q, k, v;

  explicit Fp8Inputs(at::ScalarType dtype = at::kFloat, double common = 0) {
    at::manual_seed(5);
    const auto draw = [&] { return at::randn({1, kFp8Tokens, kFp8Heads, kFp8Width}).transpose(1, 2); };
    q = (draw() * 1.1).to(dtype);
    k = (q.to(at::kFloat).roll(1, 2) + common * at::randn({1, kFp8Heads, 1, kFp8Width})).to(dtype);
    v = (draw() + common * at::randn({1, kFp8Heads, 1, kFp8Width})).to(dtype);
  }
  at::Tensor exact() const { return nn::attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat)); }
  at::Tensor in_8_bits(const nn::Smoothing& smoothing = {}) const {
    return nn::fp8_attention(nn::emulated_fp8_attention, q.clone(), k.clone(), v.clone(), smoothing);
  }
};

at::Tensor half_the_keys(const Fp8Operands& x, double scale) {
  Fp8Operands fewer = x;
  const int64_t keys = x.k.size(2) / 2;
  fewer.k = x.k.narrow(2, 0, keys);
  fewer.v = x.v.narrow(2, 0, keys);
  return nn::emulated_fp8_attention(fewer, scale);
}

at::Tensor fp8_not_a_number(const Fp8Operands& x, double) {
  return at::full_like(x.q, std::numeric_limits<double>::quiet_NaN(), at::kFloat);
}

at::Tensor no_fp8_plan(const Fp8Operands&, double) {
  TORCH_CHECK(false, "No execution plans support the graph.\nat file");
}

TEST(Fp8Attention, IsOffByWhatItsRoundingMakes) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const Fp8Inputs inputs(dtype);
    const at::Tensor out = inputs.in_8_bits();
    EXPECT_EQ(out.scalar_type(), dtype);
    EXPECT_TRUE(out.transpose(1, 2).is_contiguous());
    const double error = relative_error(out, inputs.exact());
    EXPECT_LT(error, nn::kFp8Error) << dtype;
    EXPECT_GT(error, 0.005) << "nothing was rounded: " << dtype;
  }
}

TEST(Fp8Attention, WhatAllTokensHaveInCommonCostsNoAccuracy) {
  const Fp8Inputs inputs(at::kFloat, /*common=*/30);
  const at::Tensor exact = inputs.exact();
  const double smooth = relative_error(inputs.in_8_bits(), exact);
  const double rough_keys = relative_error(inputs.in_8_bits({.keys = false, .values = true}), exact);
  const double rough_values = relative_error(inputs.in_8_bits({.keys = true, .values = false}), exact);
  EXPECT_LT(smooth, 0.005) << "most of the result is the mean, which is added exactly";
  EXPECT_GT(rough_keys, 2 * smooth);
  EXPECT_GT(rough_values, 2 * smooth);
}

TEST(Fp8Attention, RoundsByPowersOfTwoThatUseTheRange) {
  const Fp8Inputs inputs;
  const Fp8Operands operands = nn::to_fp8(inputs.q.clone(), inputs.k.clone(), inputs.v.clone());
  for (const at::Tensor& x : {operands.q, operands.k, operands.v}) {
    EXPECT_EQ(x.scalar_type(), at::kFloat8_e4m3fn);
    EXPECT_TRUE(x.transpose(1, 2).is_contiguous());
    const auto top = x.to(at::kFloat).abs().max().item<float>();
    EXPECT_GE(top, 224);
    EXPECT_LE(top, 448);
  }
  for (const at::Tensor& unit : {operands.q_unit, operands.k_unit, operands.v_unit.flatten()}) {
    EXPECT_TRUE(at::equal(at::log2(unit), at::log2(unit).round())) << unit;
  }
  EXPECT_EQ(operands.v_unit.sizes(), (std::vector<int64_t>{1, kFp8Heads, 1, 1}));
  EXPECT_LT(relative_error(operands.q.to(at::kFloat) * operands.q_unit, inputs.q), 0.03);
}

TEST(Fp8Attention, ZerosStayZeros) {
  const at::Tensor zeros = at::zeros({1, 2, 5, 16});
  const at::Tensor out = nn::fp8_attention(nn::emulated_fp8_attention, zeros.clone(), zeros.clone(), zeros.clone());
  EXPECT_TRUE(at::equal(out, zeros));
}

// The first forward gives what exact attention gives, bit for bit, and finds out about each layer.
TEST(Fp8Attention, ComesIntoUseWhereItAgrees) {
  const Fp8Inputs inputs;
  int calls = 0;
  const auto wrong_in_second = [&](const Fp8Operands& x, double scale) {
    return ++calls == 2 ? half_the_keys(x, scale) : nn::emulated_fp8_attention(x, scale);
  };
  const test::LogCapture log;
  Fp8Attention attention(wrong_in_second, 3, kAllFp8Steps);
  const auto run = [&](int64_t layer) {
    return attention(layer, inputs.q.clone(), inputs.k.clone(), inputs.v.clone());
  };
  for (int64_t layer = 0; layer < 3; ++layer) EXPECT_TRUE(at::equal(run(layer), inputs.exact())) << layer;
  EXPECT_FALSE(attention.is_settled());
  attention.settle();
  EXPECT_TRUE(attention.is_settled());
  EXPECT_EQ(attention.summary(), "fp8 in 2 of 3 layers");
  ASSERT_EQ(attention.agreements().size(), 3U);
  EXPECT_GT(attention.agreements()[1].error, nn::kFp8Error);
  EXPECT_NEAR(attention.agreements()[0].error, relative_error(inputs.in_8_bits(), inputs.exact()), 1e-3);
  EXPECT_TRUE(test::contains(log.text(), "attention: fp8 in 2 of 3 layers, each off by at most ")) << log.text();
  calls = 2;
  for (const int64_t layer : {0, 2}) EXPECT_TRUE(at::equal(run(layer), inputs.in_8_bits())) << layer;
  EXPECT_TRUE(at::equal(run(1), inputs.exact()));
  EXPECT_EQ(calls, 4) << "the layer that failed asks the kernel no more";
}

TEST(Fp8Attention, ABadKernelIsNotUsed) {
  const Fp8Inputs inputs;
  for (const nn::Fp8Kernel& kernel :
       {nn::Fp8Kernel(half_the_keys), nn::Fp8Kernel(fp8_not_a_number), nn::Fp8Kernel(no_fp8_plan)}) {
    const test::LogCapture log;
    Fp8Attention attention(kernel, 2, kAllFp8Steps);
    const auto run = [&](int64_t layer) {
      return attention(layer, inputs.q.clone(), inputs.k.clone(), inputs.v.clone());
    };
    for (int64_t layer = 0; layer < 2; ++layer) EXPECT_TRUE(at::equal(run(layer), inputs.exact()));
    attention.settle();
    EXPECT_EQ(attention.layers_in_8_bits(), 0) << log.text();
    EXPECT_TRUE(at::equal(run(0), inputs.exact()));
  }
}

TEST(Fp8Attention, AKernelThatThrowsIsAWarningOfOneLine) {
  const Fp8Inputs inputs;
  const test::LogCapture log;
  Fp8Attention attention(no_fp8_plan, 1, kAllFp8Steps);
  attention(0, inputs.q.clone(), inputs.k.clone(), inputs.v.clone());
  attention.settle();
  EXPECT_TRUE(test::contains(log.text(), "its kernel failed: No execution plans support the graph.")) << log.text();
  EXPECT_FALSE(test::contains(log.text(), "at file"));
}

TEST(Fp8Attention, FirstAndLastStepsStayExact) {
  const auto range = [](int64_t steps) {
    const nn::StepRange of = nn::fp8_steps(steps);
    return std::pair(of.first, of.end);
  };
  EXPECT_EQ(range(50), (std::pair<int64_t, int64_t>(5, 49)));
  EXPECT_EQ(range(51), (std::pair<int64_t, int64_t>(6, 50)));
  EXPECT_EQ(range(5), (std::pair<int64_t, int64_t>(2, 4)));
  for (int64_t steps = 1; steps <= 3; ++steps) EXPECT_EQ(nn::fp8_steps(steps).count(), 0) << steps;
}

TEST(Fp8Attention, ACpuHasNoKernel) {
  const nn::Fp8Choice choice = nn::fp8_kernel(at::kCPU);
  EXPECT_FALSE(choice.kernel);
  EXPECT_TRUE(test::contains(choice.why_not, "compute capability 9.0 or 10.x"));
}

}  // namespace
}  // namespace opensora
