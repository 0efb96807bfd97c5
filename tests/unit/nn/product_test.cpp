// The matrix product, by whichever library this machine's is, against LibTorch's own.
#include "nn/linear.h"

#include <gtest/gtest.h>

#include "support/reference.h"

namespace opensora {
namespace {

TEST(Product, IsALinearLayers) {
  at::manual_seed(1);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const int64_t rows : {0, 1, 5, 130}) {
      for (const auto& bias : {at::randn({24}).to(dtype), at::Tensor()}) {
        const at::Tensor weight = at::randn({24, 40}).to(dtype);
        const at::Tensor wide_in = at::randn({rows, 50}).to(dtype), wide_out = at::full({rows, 30}, 512, dtype);
        const at::Tensor x = wide_in.narrow(1, 3, 40), out = wide_out.narrow(1, 2, 24);
        nn::product(out, x, weight, bias);
        const at::Tensor expected =
            at::linear(x.to(at::kDouble), weight.to(at::kDouble), bias.defined() ? bias.to(at::kDouble) : at::Tensor());
        const double tolerance = dtype == at::kFloat ? 1e-5 : 0.02;
        if (rows > 0) EXPECT_TRUE(test::close(out, expected.to(at::kFloat), 10 * tolerance, tolerance));
        EXPECT_EQ((wide_out == 512).sum().item<int64_t>(), rows * (30 - 24));  // nothing beside the slice
      }
    }
  }
}

TEST(Product, IsScaledBeforeItIsRounded) {
  at::manual_seed(2);
  for (const auto& bias : {at::randn({24}), at::Tensor()}) {
    const at::Tensor weight = at::randn({24, 40}), x = at::randn({7, 40}), out = at::empty({7, 24});
    nn::product(out, x, weight, bias, 1.0 / 64);
    EXPECT_TRUE(test::close(out, at::linear(x, weight, bias) / 64, 1e-6, 1e-5));
  }
  const at::Tensor large = at::full({1, 100}, 100, at::kHalf), out = at::empty({1, 1}, at::kHalf);
  nn::product(out, large, large, at::zeros({1}, at::kHalf), 1.0 / 64);
  EXPECT_EQ(out.item<float>(), 15624);  // 15625, rounded, of 1,000,000
}

TEST(Product, SaturatesInFloat16) {
  const at::Tensor x = at::full({1, 1, 100}, 100, at::kHalf);
  const at::Tensor weight = at::cat({x[0], -x[0]});
  const nn::Linear layer(weight, at::zeros({2}, at::kHalf));
  const at::Tensor expected = at::tensor({65504.0F, -65504.0F}).view({1, 1, 2});
  EXPECT_TRUE(at::equal(layer(x).to(at::kFloat), expected));
  const at::Tensor out = at::zeros({1, 1, 2}, at::kHalf);
  layer.into(out, x);
  EXPECT_TRUE(at::equal(out.to(at::kFloat), expected));
  layer.add_into(out, x);
  EXPECT_TRUE(at::equal(out.to(at::kFloat), expected));
  layer.gelu_into(out, x);
  EXPECT_TRUE(at::equal(out.to(at::kFloat), at::tensor({65504.0F, 0.0F}).view({1, 1, 2})));  // and no NaN
}

}  // namespace
}  // namespace opensora
