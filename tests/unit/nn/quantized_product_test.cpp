// Products of 8-bit numbers: exact but for the rounding of activations, where they are made and where they are not.
#include "nn/quantized_product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "core/meta_device.h"
#include "nn/fused.h"
#include "support/contains.h"
#include "support/reference.h"

namespace opensora {
namespace {

using nn::Ending;
using test::contains;
using test::relative_error;

// Whether this machine's CPU multiplies int8, so that what needs it is skipped on others.
bool multiplies_int8() { return nn::quantized_product_problem(QuantizedFormat::kInt8, at::kCPU).empty(); }

// Each number by a loop: sums of 64 bits cannot overflow.
at::Tensor exact_sums(const at::Tensor& q, const at::Tensor& weight) {
  const at::Tensor sums = at::zeros({q.size(0), weight.size(0)}, at::kLong);
  const auto a = q.accessor<int8_t, 2>(), b = weight.accessor<int8_t, 2>();
  auto result = sums.accessor<int64_t, 2>();
  for (int64_t row = 0; row < q.size(0); ++row) {
    for (int64_t column = 0; column < weight.size(0); ++column) {
      for (int64_t i = 0; i < q.size(1); ++i) result[row][column] += int64_t{a[row][i]} * b[column][i];
    }
  }
  return sums;
}

class QuantizedProduct : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(1);
    if (!multiplies_int8()) GTEST_SKIP() << nn::quantized_product_problem(QuantizedFormat::kInt8, at::kCPU);
  }
};

TEST_F(QuantizedProduct, IsExactButForTheRoundingOfActivations) {
  constexpr int64_t kRows = 37, kIn = 2048, kOut = 64;
  const at::Tensor x = at::randn({kRows, kIn}), w = at::randn({kOut, kIn}), bias = at::randn({kOut});
  x.select(0, 3).fill_(2);  // sums as large as there are: 2048 * 127 * 127
  w.select(0, 5).fill_(-2);
  const QuantizedTensor weight = quantized_by_row(w, QuantizedFormat::kInt8);
  const at::Tensor q = at::empty(x.sizes(), at::kChar), scale = at::empty({kRows});
  nn::plain::quantize_rows(q, scale, x);
  const at::Tensor sums = exact_sums(q, weight.data);
  EXPECT_EQ(sums.min().item<int64_t>(), -kIn * 127 * 127);
  const at::Tensor expected =
      sums.to(at::kDouble) * scale.unsqueeze(1).to(at::kDouble) * weight.scale.flatten().to(at::kDouble) + bias;
  const at::Tensor out = at::empty({kRows, kOut});
  ASSERT_TRUE(nn::quantized_product(out, x, weight, bias));
  EXPECT_LT(relative_error(out, expected.to(at::kFloat)), 1e-6);
}

TEST_F(QuantizedProduct, IsNearTheProductWithTheDequantisedWeight) {
  for (const int64_t rotation : {0, 256}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor x = at::randn({100, 512}).to(dtype), bias = at::randn({48}).to(dtype);
      const QuantizedTensor weight = quantized_by_row(at::randn({48, 512}), QuantizedFormat::kInt8, rotation);
      const at::Tensor out = at::empty({100, 48}, dtype);
      ASSERT_TRUE(nn::quantized_product(out, x, weight, bias, 0.5));
      const at::Tensor expected =
          at::linear(x.to(at::kFloat), dequantized(weight, at::kFloat), bias.to(at::kFloat)) * 0.5;
      const double error = relative_error(out, expected);
      EXPECT_LT(error, 0.012) << dtype << ", rotation " << rotation;
      EXPECT_GT(error, 0.003) << "activations were not rounded";
    }
  }
}

// A number that is a hundred times as large as its row's others leaves those six bits fewer.
TEST_F(QuantizedProduct, TheRotationSpreadsLargeActivations) {
  const at::Tensor x = at::randn({64, 512}), w = at::randn({64, 512});
  x.select(1, 7).fill_(100);
  w.select(1, 7).fill_(0.01);
  const auto error = [&](int64_t rotation) {
    const QuantizedTensor weight = quantized_by_row(w, QuantizedFormat::kInt8, rotation);
    const at::Tensor out = at::empty({64, 64});
    EXPECT_TRUE(nn::quantized_product(out, x, weight, {}));
    return relative_error(out, at::linear(x, w));
  };
  EXPECT_LT(error(256), error(0) / 3);
}

TEST_F(QuantizedProduct, EndsInASumOrInGelu) {
  const at::Tensor x = at::randn({40, 64}), bias = at::randn({32});
  const QuantizedTensor weight = quantized_by_row(at::randn({32, 64}) / 8, QuantizedFormat::kInt8);
  const at::Tensor y = at::empty({40, 32}), before = at::randn({40, 32}), sum = before.clone(), gelu = y.clone();
  ASSERT_TRUE(nn::quantized_product(y, x, weight, bias, 2));
  ASSERT_TRUE(nn::quantized_product(sum, x, weight, bias, 2, Ending::kAdd));
  ASSERT_TRUE(nn::quantized_product(gelu, x, weight, bias, 2, Ending::kGelu));
  EXPECT_TRUE(test::close(sum, before + y, 1e-6, 1e-6));
  EXPECT_TRUE(test::close(gelu, at::gelu(y, "tanh"), 1e-5, 1e-5));
}

TEST_F(QuantizedProduct, WritesIntoSlicesOfBuffersAndReadsThem) {
  const at::Tensor wide_in = at::randn({5000, 200}), wide_out = at::full({5000, 100}, 7.0F);
  const at::Tensor x = wide_in.narrow(1, 17, 64), out = wide_out.narrow(1, 3, 48);
  const QuantizedTensor weight = quantized_by_row(at::randn({96, 64}), QuantizedFormat::kInt8);
  const QuantizedTensor rows = rows_of(weight, 32, 48);
  ASSERT_TRUE(nn::quantized_product(out, x, rows, {}));  // in three parts
  EXPECT_LT(relative_error(out.contiguous(), at::linear(x, dequantized(rows, at::kFloat))), 0.012);
  EXPECT_EQ((wide_out == 7).sum().item<int64_t>(), 5000 * (100 - 48)) << "nothing beside the slice";
}

TEST_F(QuantizedProduct, TakesColumnsOfAWeightAndOneScaleForAll) {
  const at::Tensor x = at::randn({20, 48});
  QuantizedTensor weight = quantized_by_row(at::randn({32, 96}), QuantizedFormat::kInt8);
  weight.scale = at::full({1}, 0.25);
  const QuantizedTensor columns = *columns_of(weight, 32, 48);
  const at::Tensor out = at::empty({20, 32});
  ASSERT_TRUE(nn::quantized_product(out, x, columns, {}));
  EXPECT_LT(relative_error(out, at::linear(x, dequantized(columns, at::kFloat))), 0.012);
}

TEST_F(QuantizedProduct, WhatIsNotFiniteStaysSo) {
  const QuantizedTensor weight = quantized_by_row(at::randn({32, 64}), QuantizedFormat::kInt8);
  const at::Tensor x = at::randn({20, 64}), out = at::empty({20, 32});
  x[4][9] = std::numeric_limits<float>::quiet_NaN();
  x[5][9] = std::numeric_limits<float>::infinity();
  x.select(0, 6).zero_();
  ASSERT_TRUE(nn::quantized_product(out, x, weight, {}));
  EXPECT_EQ(out[4].isnan().sum().item<int64_t>(), 32);
  EXPECT_EQ(out[5].isfinite().sum().item<int64_t>(), 0);
  EXPECT_EQ(out[6].abs().max().item<float>(), 0);
  EXPECT_EQ(out.isfinite().sum().item<int64_t>(), 18 * 32);
}

TEST_F(QuantizedProduct, LeavesWhatItIsNotFor) {
  const QuantizedTensor weight = quantized_by_row(at::randn({32, 64}), QuantizedFormat::kInt8);
  const at::Tensor out = at::full({64, 32}, 7.0F), x = at::randn({64, 64});
  const auto is_left = [&](const QuantizedTensor& its, int64_t rows = 64) {
    return !nn::quantized_product(out.narrow(0, 0, rows), x.narrow(0, 0, rows), its, {});
  };
  EXPECT_TRUE(is_left(weight, 16)) << "too few rows";
  QuantizedTensor other = weight;
  other.exact_products = true;
  EXPECT_TRUE(is_left(other));
  other = weight;
  other.scale = at::ones({32, 2});
  EXPECT_TRUE(is_left(other)) << "scales by group";
  EXPECT_TRUE(is_left(quantized_by_row(at::randn({32, 64}), QuantizedFormat::kFp8E4M3))) << "the CPU has none";
  EXPECT_EQ((out == 7).sum().item<int64_t>(), 64 * 32) << "nothing was written";
  EXPECT_FALSE(nn::has_quantized_product(x, quantized_by_row(at::randn({30, 64}), QuantizedFormat::kInt8)));
  EXPECT_FALSE(nn::has_quantized_product(x, quantized_by_row(at::randn({32, 40}), QuantizedFormat::kInt8)));
  EXPECT_TRUE(nn::has_quantized_product(x, weight));
}

TEST_F(QuantizedProduct, APlanCountsItAsItIs) {
  const MetaDevice meta(at::kCPU);
  const auto on_meta = [](at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
    return at::empty(shape, at::TensorOptions(dtype).device(at::kMeta));
  };
  const at::Tensor x = on_meta({3000, 64}), out = on_meta({3000, 32});
  const QuantizedTensor weight = {
      .format = QuantizedFormat::kInt8, .data = on_meta({32, 64}, at::kChar), .scale = on_meta({32, 1})};
  const int64_t before = meta.live_bytes();
  ASSERT_TRUE(nn::quantized_product(out, x, weight, {}));
  EXPECT_EQ(meta.flops().linear, 2.0 * 3000 * 64 * 32);
  EXPECT_EQ(meta.live_bytes(), before);
  EXPECT_EQ(meta.peak_bytes() - before, 1500 * (64 + 4 + 4 * 32)) << "half of the rows at a time";
}

TEST(QuantizedProductProblem, DependsOnTheProcessorAndTheFormat) {
  const CpuFeatures with{.avx512 = true, .avx512_vnni = true}, without{.avx512 = true};
  EXPECT_EQ(nn::cpu_product_problem(QuantizedFormat::kInt8, with), "");
  EXPECT_TRUE(contains(nn::cpu_product_problem(QuantizedFormat::kInt8, without), "VNNI"));
  EXPECT_TRUE(contains(nn::cpu_product_problem(QuantizedFormat::kFp8E4M3, with), "fp8 (e4m3)"));
  EXPECT_TRUE(contains(nn::cpu_product_problem(QuantizedFormat::kQ4_K, with), "Q4_K"));
  const auto on_gpu = [](QuantizedFormat format, int capability) {
    return nn::gpu_product_problem(format, capability).empty();
  };
  for (const int capability : {75, 80, 86, 89, 90, 100, 120}) {
    EXPECT_TRUE(on_gpu(QuantizedFormat::kInt8, capability)) << capability;
    EXPECT_EQ(on_gpu(QuantizedFormat::kFp8E4M3, capability), capability >= 89) << capability;
    EXPECT_EQ(on_gpu(QuantizedFormat::kFp8E5M2, capability), capability >= 89) << capability;
    EXPECT_FALSE(on_gpu(QuantizedFormat::kQ8_0, capability)) << capability;
  }
  EXPECT_FALSE(on_gpu(QuantizedFormat::kInt8, 70));
  EXPECT_FALSE(on_gpu(QuantizedFormat::kInt8, 103));
  EXPECT_TRUE(on_gpu(QuantizedFormat::kFp8E4M3, 0)) << "not known";
  EXPECT_EQ(nn::gpu_product_problem(QuantizedFormat::kFp8E4M3, 86),
            "the GPU's compute capability is 8.6, and products of fp8 (e4m3) begin with 8.9");
}

TEST(QuantizeRows, RoundsEachRowByItsLargest) {
  const at::Tensor x = at::tensor({-2.0F, 1.0F, 0.5F, 0.0F, 8.0F, 0.0315F, -0.0314F, 8.0F}).view({2, 4});
  for (const bool by_kernel : {false, true}) {
    const at::Tensor q = at::empty({2, 4}, at::kChar), scale = at::empty({2});
    if (by_kernel) {
      ASSERT_TRUE(nn::built_kernels(at::kCPU).quantize_rows(q, scale, x));
    } else {
      nn::plain::quantize_rows(q, scale, x);
    }
    const std::vector<int8_t> expected = {-127, 64, 32, 0, 127, 1, 0, 127};  // 63.5 to even
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), q.const_data_ptr<int8_t>())) << q;
    EXPECT_EQ(scale[0].item<float>(), 2.0F / 127);
    EXPECT_EQ(scale[1].item<float>(), 8.0F / 127);
  }
}

TEST(QuantizeRows, TheKernelMakesThePlainPathsNumbers) {
  at::manual_seed(9);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = (at::randn({300, 778}) * at::logspace(-20, 20, 300).unsqueeze(1)).to(dtype);
    const at::Tensor q = at::empty(x.sizes(), at::kChar), expected = q.clone();
    const at::Tensor scale = at::empty({300}), expected_scale = at::empty({300});
    ASSERT_TRUE(nn::built_kernels(at::kCPU).quantize_rows(q, scale, x));
    nn::plain::quantize_rows(expected, expected_scale, x);
    EXPECT_TRUE(at::equal(q, expected));
    EXPECT_TRUE(at::equal(scale, expected_scale));
  }
}

}  // namespace
}  // namespace opensora
