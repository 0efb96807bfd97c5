// Linear layers into slices of buffers, with weights of another dtype.
#include "nn/linear.h"

#include <gtest/gtest.h>

#include "nn/quantized_product.h"
#include "support/reference.h"

namespace opensora {
namespace {

using test::close;

TEST(Linear, WritesIntoSlices) {
  at::manual_seed(1);
  for (const bool with_bias : {true, false}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const nn::Linear layer(at::randn({6, 8}).to(dtype), with_bias ? at::randn({6}).to(dtype) : at::Tensor());
      const at::Tensor x = at::randn({2, 9, 12}), buffer = at::full({2, 9, 11}, 7.0F);
      const at::Tensor in = x.narrow(1, 2, 5).narrow(2, 3, 8), out = buffer.narrow(1, 4, 5).narrow(2, 2, 6);
      layer.into(out, in);
      EXPECT_TRUE(close(out, layer(in), 1e-5, 1e-5)) << dtype << with_bias;
      EXPECT_EQ((buffer == 7).sum().item<int64_t>(), buffer.numel() - out.numel());  // and nothing else
    }
  }
}

TEST(Linear, SomeOfTheOutputs) {
  const nn::Linear layer(at::randn({6, 8}), at::randn({6}));
  const at::Tensor x = at::randn({1, 3, 8});
  EXPECT_TRUE(close(layer.outputs(2, 3)(x), layer(x).narrow(2, 2, 3), 1e-6, 1e-6));
  EXPECT_TRUE(layer.outputs(2, 3).weight.is_alias_of(layer.weight));
}

TEST(Linear, ProductsOfSomeOfTheInputsAddUp) {
  at::manual_seed(3);
  const nn::Linear layer(at::randn({6, 8}), at::randn({6}));
  const at::Tensor x = at::randn({2, 3, 8}), out = at::empty({2, 3, 6});
  layer.inputs(0, 5).into(out, x.narrow(2, 0, 5), 0.5);
  layer.inputs(5, 3).add_into(out, x.narrow(2, 5, 3), 0.5);
  EXPECT_TRUE(close(out, layer(x) / 2, 1e-6, 1e-5));
}

TEST(Linear, WithGelu) {
  at::manual_seed(4);
  for (const bool with_bias : {true, false}) {
    const nn::Linear layer(at::randn({6, 8}), with_bias ? at::randn({6}) : at::Tensor());
    const at::Tensor x = at::randn({2, 3, 8}), buffer = at::full({2, 3, 9}, 7.0F);
    layer.gelu_into(buffer.narrow(2, 1, 6), x);
    EXPECT_TRUE(close(buffer.narrow(2, 1, 6), at::gelu(layer(x), "tanh"), 1e-5, 1e-5));
    EXPECT_EQ((buffer == 7).sum().item<int64_t>(), 2 * 3 * 3);
  }
}

// The reason why it is not used there.
TEST(Linear, TheCpusProductWithGeluIsTheExactOne) {
  const at::Tensor x = at::linspace(-4, 4, 64).view({4, 16});
  const at::Tensor result = at::_addmm_activation(at::zeros({16}), x, at::eye(16), 1, 1, /*use_gelu=*/true);
  EXPECT_TRUE(close(result, at::gelu(x, "none"), 1e-6, 1e-6));
  EXPECT_GT((result - at::gelu(x, "tanh")).abs().max().item<float>(), 2e-4);
  EXPECT_FALSE(nn::has_gelu_product(at::kCPU));
}

TEST(WeightBuffer, KeepsItsMemory) {
  const at::Tensor x = at::randn({1, 3, 8});
  const at::Tensor large = at::randn({6, 8}).to(at::kBFloat16), small = at::randn({4, 8}).to(at::kBFloat16);
  nn::WeightBuffer buffer;
  EXPECT_TRUE(buffer.converted(x, x).is_same(x));  // nothing to convert
  const at::Tensor first = buffer.converted(large, x);
  EXPECT_TRUE(at::equal(first, large.to(at::kFloat)));
  const at::Tensor second = buffer.converted(small, x);
  EXPECT_TRUE(at::equal(second, small.to(at::kFloat)));
  EXPECT_EQ(first.const_data_ptr(), second.const_data_ptr());
  const at::Tensor half = buffer.converted(large, x.to(at::kHalf));  // another dtype
  EXPECT_EQ(half.scalar_type(), at::kHalf);
  EXPECT_TRUE(at::equal(half, large.to(at::kHalf)));
}

// What runs with the weights dequantised beforehand is the reference.
TEST(Linear, WithQuantizedWeights) {
  at::manual_seed(6);
  for (const QuantizedFormat format : {QuantizedFormat::kInt8, QuantizedFormat::kFp8E4M3}) {
    for (const int64_t rotation : {0, 16}) {
      const QuantizedTensor weight = quantized_by_row(at::randn({6, 32}), format, rotation);
      const nn::Linear layer(weight, at::randn({6})), plain(dequantized(weight, at::kFloat), layer.bias);
      EXPECT_EQ(layer.out_features(), 6);
      const at::Tensor x = at::randn({2, 3, 32}), out = at::empty({2, 3, 6}), expected = at::empty({2, 3, 6});
      EXPECT_TRUE(layer(x).equal(plain(x)));
      nn::WeightBuffer buffer;
      for (int i = 0; i < 2; ++i) {  // the second time in the buffer that is there
        layer.into(out, x, buffer, 0.5);
        plain.into(expected, x, 0.5);
        EXPECT_TRUE(out.equal(expected));
      }
      EXPECT_TRUE(layer.outputs(2, 3)(x).equal(plain.outputs(2, 3)(x)));
      for (const int64_t first : {16, 8}) {  // of groups of the rotation, and not
        const at::Tensor some = x.narrow(2, first, 16);
        EXPECT_TRUE(close(layer.inputs(first, 16)(some), plain.inputs(first, 16)(some), 1e-5, 1e-5));
      }
    }
  }
}

// What each of a layer's functions makes of weights in int8: the same as of dequantised ones, but for the rounding of
// activations, where products are made of 8-bit numbers.
TEST(Linear, OfEightBitWeightsRoundsActivations) {
  at::manual_seed(6);
  QuantizedTensor weight = quantized_by_row(at::randn({48, 64}) / 8, QuantizedFormat::kInt8);
  const at::Tensor bias = at::randn({48}), x = at::randn({2, 40, 64}), before = at::randn({2, 40, 48});
  const auto results = [&](bool exact) {
    weight.exact_products = exact;
    const nn::Linear layer(weight, bias);
    nn::WeightBuffer buffer;
    EXPECT_EQ(layer.converted_for(x, buffer).quantized.has_value(), nn::has_quantized_product(x, weight));
    std::vector<at::Tensor> all = {layer(x), at::empty_like(before), at::empty_like(before), before.clone()};
    layer.into(all[1], x, 0.5);
    layer.gelu_into(all[2], x);
    layer.inputs(16, 48).add_into(all[3], x.narrow(2, 16, 48), 2);
    return all;
  };
  const std::vector<at::Tensor> rounded = results(false), exact = results(true);
  const bool rounds = nn::quantized_product_problem(QuantizedFormat::kInt8, at::kCPU).empty();
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = test::relative_error(rounded[i], exact[i]);
    EXPECT_LT(error, 0.015) << i;
    EXPECT_EQ(error > 1e-3, rounds) << i << ": " << error;
  }
  EXPECT_TRUE(close(exact[3],
                    before + 2 * at::linear(x.narrow(2, 16, 48), dequantized(weight, at::kFloat).narrow(1, 16, 48)),
                    1e-5, 1e-5));
}

}  // namespace
}  // namespace opensora
