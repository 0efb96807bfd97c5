// Products of 8-bit numbers as a GPU makes them: by the library's product, and passes of LibTorch's operators where no
// kernel of ours is there.
#include "nn/quantized_product.h"

#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "nn/linear.h"
#include "simulated/simulated_test.h"
#include "support/reference.h"

namespace opensora {
namespace {

class SimulatedProduct : public test::SimulatedTest, public ::testing::WithParamInterface<QuantizedFormat> {
 protected:
  void SetUp() override {
    test::SimulatedTest::SetUp();
    ASSERT_EQ(nn::quantized_product_problem(GetParam(), test::simulated::device()), "");  // tries it, which waits
    at::manual_seed(3);
  }

  // What rounding activations amounts to is half of it.
  double limit() const { return GetParam() == QuantizedFormat::kInt8 ? 0.02 : 0.06; }

  const c10::InferenceMode inference_;
};

TEST_P(SimulatedProduct, OfALayerWaitsForNothingAndCopiesNothing) {
  const at::Device device = test::simulated::device();
  const at::Tensor x = at::randn({2, 3000, 128}), bias = at::randn({64});
  const QuantizedTensor weight = quantized_by_row(at::randn({64, 128}), GetParam());
  const QuantizedTensor there = {
      .format = weight.format, .data = weight.data.to(device), .scale = weight.scale.to(device)};
  const nn::Linear layer(there, bias.to(device));
  const at::Tensor in = x.to(device), out = at::empty({2, 3000, 64}, in.options());

  const test::simulated::Counters before = test::simulated::counters();
  layer.into(out, in, 0.5);
  layer.inputs(64, 64).add_into(out, in.narrow(2, 64, 64), 0.5);
  const test::simulated::Counters after = test::simulated::counters();
  EXPECT_EQ(after.synchronizations, before.synchronizations);
  EXPECT_EQ(after.copies, before.copies);
  EXPECT_GT(after.kernels, before.kernels);

  const at::Tensor exact = dequantized(weight, at::kFloat);
  const at::Tensor sum = at::linear(x, exact, bias) + at::linear(x.narrow(2, 64, 64), exact.narrow(1, 64, 64));
  const double error = test::relative_error(out.cpu(), sum / 2);
  EXPECT_LT(error, limit());
  EXPECT_GT(error, limit() / 10) << "activations were not rounded";
}

TEST_P(SimulatedProduct, WeightsThatAreElsewhereAreDequantised) {
  const at::Tensor x = at::randn({1, 40, 64});
  const QuantizedTensor weight = quantized_by_row(at::randn({32, 64}), GetParam());
  const nn::Linear layer(weight, at::Tensor());
  const at::Tensor in = x.to(test::simulated::device()), out = at::empty({1, 40, 32}, in.options());
  layer.into(out, in);
  EXPECT_LT(test::relative_error(out.cpu(), at::linear(x, dequantized(weight, at::kFloat))), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Formats, SimulatedProduct,
                         ::testing::Values(QuantizedFormat::kInt8, QuantizedFormat::kFp8E4M3),
                         [](const auto& info) { return info.param == QuantizedFormat::kInt8 ? "int8" : "fp8"; });

}  // namespace
}  // namespace opensora
