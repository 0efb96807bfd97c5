// Where the channels of frames lie in memory: innermost stays innermost, and on a GPU convolutions bring them there.
#include "nn/conv.h"

#include <gtest/gtest.h>

#include <memory>

#include "core/meta_device.h"

namespace opensora {
namespace {

bool is_channels_last(const at::Tensor& x) {
  return x.is_contiguous(at::MemoryFormat::ChannelsLast3d) && !x.is_contiguous();
}

TEST(UpsampleNearest, LeavesChannelsInnermost) {
  const at::Tensor x = at::randn({2, 3, 2, 4, 5}), last = x.contiguous(at::MemoryFormat::ChannelsLast3d);
  const at::Tensor enlarged = nn::upsample_nearest(last, {2, 3, 1});
  EXPECT_TRUE(is_channels_last(enlarged));
  EXPECT_TRUE(nn::upsample_nearest(x, {2, 3, 1}).is_contiguous());
  EXPECT_TRUE(at::equal(enlarged, nn::upsample_nearest(x, {2, 3, 1})));
  EXPECT_TRUE(at::equal(enlarged, x.repeat_interleave(2, 2).repeat_interleave(3, 3)));
}

// A plan's convolution of contiguous frames.
at::Tensor planned(at::DeviceType device, int64_t groups) {
  const MetaDevice plan{at::Device(device)};
  const nn::Conv conv(Weights(std::make_shared<MetaSource>(), at::kMeta, at::kBFloat16), 3,
                      {.in_channels = 32, .out_channels = 32, .groups = groups});
  return conv(at::empty({1, 32, 2, 4, 5}, at::TensorOptions().device(at::kMeta).dtype(at::kBFloat16)));
}

TEST(Conv, BringsChannelsInnermostOnAGpu) {
  EXPECT_TRUE(is_channels_last(planned(at::kCUDA, 1)));
  EXPECT_FALSE(is_channels_last(planned(at::kCUDA, 32))) << "LibTorch's kernels for these want them outermost";
  EXPECT_FALSE(is_channels_last(planned(at::kCPU, 1)));
}

}  // namespace
}  // namespace opensora
