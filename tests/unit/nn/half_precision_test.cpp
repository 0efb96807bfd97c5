// Layers in bfloat16 and float16, computed in that or in float32: results are those of float32 but for roundings, and
// have the dtype that was asked for.
#include <gtest/gtest.h>

#include "core/cpu_features.h"
#include "nn/attention.h"
#include "nn/conv.h"
#include "support/reference.h"

namespace opensora {
namespace {

class HalfPrecision : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override { at::manual_seed(8); }

  at::Tensor random(at::IntArrayRef shape, double scale = 1) const { return (at::randn(shape) * scale).to(GetParam()); }
  void expect_near(const at::Tensor& actual, const at::Tensor& expected) const {
    EXPECT_EQ(actual.scalar_type(), GetParam());
    EXPECT_LT(test::relative_error(actual, expected), GetParam() == at::kHalf ? 2e-3 : 1e-2);
  }
};

TEST_P(HalfPrecision, Convolutions) {
  for (const int64_t dims : {2, 3}) {
    for (const auto& [stride, groups, kernel] : {std::tuple{1, 1, 3}, {2, 1, 3}, {1, 32, 5}, {1, 1, 1}}) {
      std::vector<int64_t> shape = {1, 32}, kernels = {32, 32 / groups};
      for (int64_t i = 0; i < dims; ++i) shape.push_back(6), kernels.push_back(kernel);
      const double fan_in = static_cast<double>(c10::multiply_integers(kernels)) / 32;
      const at::Tensor x = random(shape);
      const auto source = std::make_shared<MetaSource>();
      nn::Conv conv(Weights(source, at::kMeta, GetParam()), dims,
                    {.in_channels = 32,
                     .out_channels = 32,
                     .kernel_size = kernel,
                     .stride = std::vector<int64_t>(dims, stride),
                     .groups = groups});
      conv.weight = random(kernels, 1 / std::sqrt(fan_in));
      conv.bias = random({32});
      const at::Tensor expected =
          at::convolution(x.to(at::kFloat), conv.weight.to(at::kFloat), conv.bias.to(at::kFloat), conv.stride,
                          conv.padding, std::vector<int64_t>(dims, 1), false, std::vector<int64_t>(dims, 0), groups);
      expect_near(conv(x), expected);
    }
  }
}

TEST_P(HalfPrecision, ConvolutionsOfPaddedFrames) {
  const at::Tensor padded = random({1, 16, 4, 8, 9}).contiguous(at::MemoryFormat::ChannelsLast3d);
  const at::Tensor weight = random({24, 16, 3, 3, 3}, 0.05), bias = random({24});
  const nn::PaddedConv conv(weight, bias, padded, {1, 1, 1});
  const at::Tensor out = nn::empty_channels_last(padded, {1, 24, 2, 6, 7});
  const at::Tensor expected = at::conv3d(padded.to(at::kFloat), weight.to(at::kFloat), bias.to(at::kFloat));
  conv(padded, out);
  expect_near(out, expected);
  conv(padded, out, /*add=*/true);
  expect_near(out, 2 * expected);
}

TEST_P(HalfPrecision, Attention) {
  const at::Tensor q = random({1, 3, 40, 64}), k = random({1, 3, 70, 64}), v = random({1, 3, 70, 64});
  const at::Tensor bias = random({1, 3, 40, 70});
  const auto wide = [](const at::Tensor& x) { return x.to(at::kFloat); };
  expect_near(nn::attention(q, k, v), at::scaled_dot_product_attention(wide(q), wide(k), wide(v)));
  expect_near(nn::attention(q, k, v, {.bias = bias, .causal = false, .scale = 0.3}),
              at::scaled_dot_product_attention(wide(q), wide(k), wide(v), wide(bias), 0, false, 0.3));
  const at::Tensor causal =
      nn::attention(q, k.narrow(2, 0, 40), v.narrow(2, 0, 40), {.bias = {}, .causal = true, .scale = {}});
  expect_near(causal, at::scaled_dot_product_attention(wide(q), wide(k.narrow(2, 0, 40)), wide(v.narrow(2, 0, 40)), {},
                                                       0, true));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, HalfPrecision, ::testing::Values(at::kBFloat16, at::kHalf),
                         [](const auto& info) { return info.param == at::kHalf ? "fp16" : "bf16"; });

}  // namespace
}  // namespace opensora
