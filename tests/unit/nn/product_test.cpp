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

}  // namespace
}  // namespace opensora
