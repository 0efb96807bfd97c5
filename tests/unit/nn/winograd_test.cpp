// WinogradConv against LibTorch's convolution.
#include "nn/winograd.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "nn/conv.h"

namespace opensora::nn {
namespace {

struct Sizes {
  int64_t in, out, taps, frames, height, width;
};

class Winograd : public ::testing::TestWithParam<Sizes> {
 protected:
  static at::Tensor padded(const Sizes& s) {
    const at::Tensor x = at::randn({2, s.in, s.frames + s.taps - 1, s.height + 2, s.width + 2});
    return x.contiguous(at::MemoryFormat::ChannelsLast3d);
  }
  static at::Tensor kernel(const Sizes& s) { return at::randn({s.out, s.in, s.taps, 3, 3}); }
};

double largest_error(const at::Tensor& found, const at::Tensor& exact) {
  return ((found.to(at::kDouble) - exact).abs().max() / exact.abs().max()).item<double>();
}

TEST_P(Winograd, IsAsExactAsTheDirectSum) {
  at::manual_seed(1);
  const Sizes& s = GetParam();
  const at::Tensor x = padded(s), weight = kernel(s), bias = at::randn({s.out});
  const at::Tensor exact = at::conv3d(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble));
  const at::Tensor out = empty_channels_last(x, exact.sizes());
  WinogradConv(weight, bias)(x, out, /*add=*/false);
  EXPECT_LT(largest_error(out, exact), 2e-6);
  EXPECT_LT(largest_error(out, exact), 4 * largest_error(at::conv3d(x, weight, bias), exact) + 1e-7);
}

TEST_P(Winograd, AddsToPartsOfAnything) {
  at::manual_seed(2);
  const Sizes& s = GetParam();
  const at::Tensor x = padded(s), weight = kernel(s);
  const at::Tensor product = at::conv3d(x, weight);
  const at::Tensor base = empty_channels_last(x, {2, s.out, s.frames + 2, s.height + 1, s.width + 3}).normal_();
  const at::Tensor out = base.clone();
  const auto part = [&](const at::Tensor& y) {
    return y.narrow(2, 1, s.frames).narrow(3, 1, s.height).narrow(4, 2, s.width);
  };
  WinogradConv(weight, {})(x, part(out), /*add=*/true);
  const at::Tensor expected = base.clone();
  part(expected).add_(product);
  EXPECT_TRUE(at::allclose(out, expected, 1e-4, 1e-4));
  part(out).copy_(part(base));
  EXPECT_TRUE(at::equal(out, base)) << "something was written beside the part";
}

INSTANTIATE_TEST_SUITE_P(Sizes, Winograd,
                         ::testing::Values(Sizes{16, 16, 3, 1, 1, 1}, Sizes{16, 24, 3, 2, 2, 3},
                                           Sizes{17, 33, 3, 3, 5, 7}, Sizes{32, 16, 1, 4, 9, 8},
                                           Sizes{16, 16, 3, 2, 40, 61}));

TEST(WinogradResult, DoesNotDependOnThreads) {
  const at::Tensor x = at::randn({1, 16, 4, 66, 70}).contiguous(at::MemoryFormat::ChannelsLast3d);
  const at::Tensor weight = at::randn({16, 16, 3, 3, 3});
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    results.push_back(empty_channels_last(x, {1, 16, 2, 64, 68}));
    WinogradConv(weight, {})(x, results.back(), false);
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(results[0], results[1]));
}

TEST(WinogradUse, IsForWideLayersInFloat) {
  const at::Tensor x = at::zeros({1, 16, 3, 4, 4});
  EXPECT_TRUE(WinogradConv::is_for(x, at::zeros({16, 16, 3, 3, 3})));
  EXPECT_FALSE(WinogradConv::is_for(x, at::zeros({3, 16, 3, 3, 3})));
  EXPECT_FALSE(WinogradConv::is_for(x, at::zeros({16, 16, 1, 1, 1})));
  EXPECT_FALSE(WinogradConv::is_for(x.to(at::kBFloat16), at::zeros({16, 16, 3, 3, 3})));
}

}  // namespace
}  // namespace opensora::nn
