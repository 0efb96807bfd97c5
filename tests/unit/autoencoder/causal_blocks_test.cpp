// HunyuanVAE's layers, which run in parts of the frames and in place, against the same as whole tensors.
#include "autoencoder/hunyuan_vae.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "nn/conv.h"
#include "support/reference.h"

namespace opensora::autoencoder {
namespace {

using test::close;

// Random weights of whatever shape is asked for.
class RandomSource final : public WeightSource {
 public:
  std::optional<at::Tensor> find(const std::string& name, at::IntArrayRef shape) const override {
    at::Tensor& tensor = tensors_[name];
    if (!tensor.defined()) {
      tensor = shape.size() == 1
                   ? at::randn(shape) * 0.3 + 0.5
                   : at::randn(shape) / std::sqrt(static_cast<double>(c10::multiply_integers(shape) / shape[0]));
    }
    return tensor;
  }
  bool contains(const std::string&) const override { return true; }
  std::vector<std::string> names() const override { return {}; }
  std::string description() const override { return "random"; }

 private:
  mutable std::map<std::string, at::Tensor> tensors_;
};

Weights random_weights(at::ScalarType dtype = at::kFloat) {
  return {std::make_shared<RandomSource>(), at::kCPU, dtype};
}

at::Tensor activations(at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
  return (at::randn(shape) * 2 + 1).to(dtype).contiguous(at::MemoryFormat::ChannelsLast3d);
}

at::Tensor whole_conv(const CausalConv3d& conv, const at::Tensor& x) {
  const int64_t k = conv.weight.size(2), side = k / 2;
  const at::Tensor padded = k == 1 ? x : at::replication_pad3d(x.contiguous(), {side, side, side, side, k - 1, 0});
  return at::conv3d(padded, conv.weight.to(x.scalar_type()), conv.bias.to(x.scalar_type()), conv.stride);
}

at::Tensor whole_norm(const nn::GroupNorm& norm, const at::Tensor& x) { return norm(x.contiguous()); }

at::Tensor whole_resnet(const ResnetBlock& block, const at::Tensor& x) {
  at::Tensor h = whole_conv(block.conv1, at::silu(whole_norm(block.norm1, x)));
  h = whole_conv(block.conv2, at::silu(whole_norm(block.norm2, h)));
  return h + (block.conv_shortcut ? whole_conv(*block.conv_shortcut, x) : x);
}

at::Tensor whole_upsample(const CausalUpsample& up, const at::Tensor& x) {
  const int64_t factor = up.space ? 2 : 1;
  if (!up.time || x.size(2) == 1) return whole_conv(up.conv, nn::upsample_nearest(x, {1, factor, factor}));
  return whole_conv(up.conv, at::cat({nn::upsample_nearest(x.slice(2, 0, 1), {1, factor, factor}),
                                      nn::upsample_nearest(x.slice(2, 1), {2, factor, factor})},
                                     2));
}

struct Shape {
  int64_t batch, frames, height, width;
};
// The last has frames of 16 MiB, enlarged ones in the second list: they go by four.
const std::vector<Shape> kShapes = {{1, 1, 3, 4}, {2, 5, 6, 5}, {1, 9, 4, 8}, {1, 5, 256, 512}};
const std::vector<Shape> kUpsampledShapes = {{1, 1, 3, 4}, {2, 5, 6, 5}, {1, 9, 4, 8}, {1, 5, 128, 512}};

class InParts : public ::testing::TestWithParam<Shape> {
 protected:
  void SetUp() override { at::manual_seed(3); }
  at::Tensor input(int64_t channels) const {
    const auto [batch, frames, height, width] = GetParam();
    return activations({batch, channels, frames, height, width});
  }
};

TEST_P(InParts, Convolution) {
  for (const CausalConv3d::Stride stride : {CausalConv3d::Stride{1, 1, 1}, {1, 2, 2}, {2, 2, 2}}) {
    const CausalConv3d conv(random_weights(), 32, 16, 3, stride);
    const at::Tensor x = input(32);
    EXPECT_TRUE(close(conv(x), whole_conv(conv, x)));
  }
}

TEST_P(InParts, ResidualBlock) {
  for (const int64_t out : {32, 16}) {
    const ResnetBlock block(random_weights(), 32, out, 8);
    const at::Tensor x = input(32), expected = whole_resnet(block, x);
    EXPECT_TRUE(close(block(x.clone(at::MemoryFormat::Preserve)), expected)) << out;
  }
}

class UpsamplingInParts : public InParts {};

TEST_P(UpsamplingInParts, IsThatOfTheWhole) {
  for (const auto& [space, time] : {std::pair{true, true}, {true, false}, {false, true}}) {
    const CausalUpsample up(random_weights(), 16, space, time);
    const at::Tensor x = input(16);
    EXPECT_TRUE(close(up(x), whole_upsample(up, x))) << space << time;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, InParts, ::testing::ValuesIn(kShapes));
INSTANTIATE_TEST_SUITE_P(Shapes, UpsamplingInParts, ::testing::ValuesIn(kUpsampledShapes));

TEST(InPartsInBfloat16, IsNearTheWhole) {
  at::manual_seed(4);
  const ResnetBlock block(random_weights(at::kBFloat16), 32, 16, 8);
  const CausalUpsample up(random_weights(at::kBFloat16), 16, true, true);
  const at::Tensor x = activations({1, 32, 5, 8, 8}, at::kBFloat16);
  const at::Tensor expected = whole_upsample(up, whole_resnet(block, x.to(at::kFloat)));
  const at::Tensor found = up(block(x.clone(at::MemoryFormat::Preserve))).to(at::kFloat);
  EXPECT_LT(((found - expected).norm() / expected.norm()).item<double>(), 0.02);
}

TEST(GroupNormInParts, HasTheStatisticsOfTheWhole) {
  at::manual_seed(5);
  const nn::GroupNorm norm(random_weights(), 32, 8, 1e-6);
  // Far from zero: differences of squares would lose the variance.
  const at::Tensor x = activations({2, 32, 5, 9, 70}) * 0.01 + 30;
  const at::Tensor exact =
      at::group_norm(x.to(at::kDouble), 8, norm.weight.to(at::kDouble), norm.bias.to(at::kDouble), 1e-6);
  const at::Tensor out = nn::empty_channels_last(x, x.sizes());
  nn::apply_affine(x, norm.affine(x), out);
  EXPECT_LT((out - exact).abs().max().item<double>(), 1e-2);  // x itself is rounded to 2e-6 of 0.02
  nn::apply_affine_silu(x, norm.affine(x), out);
  EXPECT_LT((out - at::silu(exact)).abs().max().item<double>(), 1e-2);
}

TEST(SiluInRows, IsThatOfLibTorch) {
  const at::Tensor x =
      at::linspace(-120, 120, 48000).reshape({1, 16, 1, 30, 100}).contiguous(at::MemoryFormat::ChannelsLast3d);
  const at::Tensor out = nn::empty_channels_last(x, x.sizes()), ones = at::ones({1, 16}), zeros = at::zeros({1, 16});
  nn::apply_affine_silu(x, {ones, zeros}, out);
  EXPECT_TRUE(at::allclose(out, at::silu(x.to(at::kDouble)).to(at::kFloat), 1e-6, 1e-30));
  const at::Tensor odd = at::full({1, 16, 1, 1, 1}, std::nanf("")).contiguous(at::MemoryFormat::ChannelsLast3d);
  nn::apply_affine_silu(odd, {ones, zeros}, odd);
  EXPECT_TRUE(at::isnan(odd).all().item<bool>());
}

}  // namespace
}  // namespace opensora::autoencoder
