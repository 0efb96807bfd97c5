// What the meta device counts: bytes of each kind of operator, once for those that call others.
#include "core/meta_device.h"

#include <gtest/gtest.h>

#include <functional>

#include "nn/conv.h"
#include "nn/fused.h"

namespace opensora {
namespace {

at::Tensor meta(at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
  return at::empty(shape, at::TensorOptions().device(at::kMeta).dtype(dtype));
}

class MetaDeviceCounts : public ::testing::Test {
 protected:
  const ByteCount& of(const std::function<void()>& work) {
    device_.reset_counts();
    work();
    return device_.bytes();
  }

  MetaDevice device_{at::kCUDA};
};

TEST_F(MetaDeviceCounts, ElementwiseOperatorsReadTheirArgumentsAndWriteTheirResult) {
  const at::Tensor x = meta({3, 5}), y = meta({3, 5}), row = meta({5}), half = meta({3, 5}, at::kBFloat16);
  at::Tensor changed = meta({3, 5});
  EXPECT_EQ(of([&] { x + y; }).elementwise, 3 * 60);
  EXPECT_EQ(of([&] { x + row; }).elementwise, 60 + 20 + 60);
  EXPECT_EQ(of([&] { x + row.expand({3, 5}); }).elementwise, 60 + 20 + 60) << "a broadcast row lies in memory once";
  EXPECT_EQ(of([&] { changed.add_(y); }).elementwise, 3 * 60) << "read, changed, and the other";
  EXPECT_EQ(of([&] { changed.copy_(half); }).elementwise, 30 + 60) << "what is copied over is not read";
  EXPECT_EQ(of([&] { changed.zero_(); }).elementwise, 60);
  EXPECT_EQ(of([&] { at::add_out(changed, x, y); }).elementwise, 3 * 60);
  EXPECT_EQ(of([&] { at::cat({x, y}); }).elementwise, 4 * 60);
  EXPECT_EQ(of([&] { x + y; }).operators, 1);
}

TEST_F(MetaDeviceCounts, ViewsAndAllocationsMoveNothing) {
  const at::Tensor x = meta({4, 6});
  const ByteCount& bytes = of([&] {
    x.t().unsqueeze(0).narrow(1, 0, 2).view({2, 4});
    x.chunk(2, 1);
    x.reshape({24}).unflatten(0, {4, 6});
    x.contiguous();
    x.to(at::kFloat);
    at::empty_like(x);
  });
  EXPECT_EQ(bytes.elementwise, 0);
  EXPECT_EQ(bytes.operators, 0);
}

TEST_F(MetaDeviceCounts, AnOperatorThatCallsAnotherCountsOnce) {
  const at::Tensor x = meta({4, 6});
  EXPECT_EQ(of([&] { x.to(at::kBFloat16); }).elementwise, 96 + 48);
  EXPECT_EQ(of([&] { x.t().contiguous(); }).elementwise, 2 * 96);
  EXPECT_EQ(of([&] { x.clone(); }).operators, 1);
}

TEST_F(MetaDeviceCounts, ProductsCountForAllWithinThem) {
  const at::Tensor x = meta({7, 8}), weight = meta({5, 8}), bias = meta({5});
  at::Tensor out = meta({7, 5});
  const double moved = 4 * (7 * 8 + 5 * 8 + 7 * 5);
  for (const auto& product : std::vector<std::function<void()>>{
           [&] { at::linear(x, weight); }, [&] { at::mm(x, weight.t()); }, [&] { at::mm_out(out, x, weight.t()); }}) {
    const ByteCount& bytes = of(product);
    EXPECT_EQ(bytes.elementwise, 0);
    EXPECT_EQ(bytes.operators, 1);
    EXPECT_EQ(bytes.linear, moved);
    EXPECT_EQ(device_.flops().linear, 2 * 7 * 8 * 5);
  }
  EXPECT_EQ(of([&] { at::linear(x, weight, bias); }).linear, moved + 20);
  EXPECT_EQ(of([&] { at::addmm_out(out, bias, x, weight.t()); }).linear, moved + 20);
  EXPECT_EQ(device_.flops().linear, 2 * 7 * 8 * 5);
}

TEST_F(MetaDeviceCounts, AttentionAndConvolutionsHaveTheirOwnClasses) {
  const at::Tensor q = meta({1, 2, 9, 16}), x = meta({1, 3, 8, 8}), weight = meta({6, 3, 3, 3});
  const ByteCount attention = of([&] { at::scaled_dot_product_attention(q, q, q); });
  EXPECT_EQ(attention.attention, 4 * 4 * 2 * 9 * 16);
  EXPECT_EQ(attention.elementwise + attention.linear, 0);
  const ByteCount convolution = of([&] { at::conv2d(x, weight, {}, 1, 1); });
  EXPECT_EQ(convolution.convolution, 4 * (3 * 64 + 6 * 27 + 6 * 64));
  EXPECT_EQ(convolution.elementwise, 0);
}

// They return at once on the meta device, and are a pass each.
TEST_F(MetaDeviceCounts, FusedKernelsAreOnePass) {
  const at::Tensor x = meta({1, 4, 8}), row = meta({1, 1, 8});
  EXPECT_EQ(of([&] { nn::modulated_layer_norm(x, x, row, row, 1e-6); }).elementwise, 2 * 128);
  EXPECT_EQ(of([&] { nn::gelu_tanh(x); }).elementwise, 2 * 128);
}

TEST_F(MetaDeviceCounts, TensorsWithDataDoNotCount) {
  const at::Tensor x = at::ones({8});
  EXPECT_EQ(of([&] { x + x; }).elementwise, 0);
}

}  // namespace
}  // namespace opensora
