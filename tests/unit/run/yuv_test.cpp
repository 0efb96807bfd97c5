// RGB to planar YUV with LibTorch's operators, against swscale's.
#include "run/frames.h"

#include <gtest/gtest.h>

#include "media/picture.h"
#include "support/read_video.h"
#include "support/temporary_folder.h"

extern "C" {
#include <libavutil/frame.h>
}

#include "media/video_writer.h"

namespace opensora {
namespace {

at::Tensor plane(const AVFrame& frame, int index, int64_t height, int64_t width) {
  return at::from_blob(frame.data[index], {height, width}, {frame.linesize[index], 1}, at::kByte).clone().flatten();
}

// What the writer's own path makes of a picture.
at::Tensor by_swscale(const at::Tensor& rgb) {
  const media::Size size{static_cast<int>(rgb.size(1)), static_cast<int>(rgb.size(0))};
  const media::Size coded = media::coded_size(size, "yuv420p");
  media::RgbScaler scaler(size, size, coded);
  media::FrameConverter converter(coded, "yuv420p");
  const AVFrame& frame = converter.convert(scaler.scale(rgb.const_data_ptr<uint8_t>()));
  const int64_t h = coded.height, w = coded.width;
  return at::cat({plane(frame, 0, h, w), plane(frame, 1, h / 2, w / 2), plane(frame, 2, h / 2, w / 2)});
}

int largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kInt) - b.to(at::kInt)).abs().max().item<int>();
}

TEST(Yuv420p, IsWithinALevelOfSwscale) {
  at::manual_seed(1);
  for (const auto& [height, width] :
       std::vector<std::pair<int64_t, int64_t>>{{64, 96}, {65, 97}, {8, 8}, {16, 16}, {15, 33}, {192, 336}}) {
    const at::Tensor noise = at::randint(256, {height, width, 3}).to(at::kByte);
    const at::Tensor converted = run::to_yuv420p(noise), expected = by_swscale(noise);
    ASSERT_EQ(converted.sizes(), expected.sizes()) << width << "x" << height;
    EXPECT_LE(largest_difference(converted, expected), 1) << width << "x" << height;
  }
}

// Every corner of the cube, and grey: a wrong matrix or range is off by more than rounding.
TEST(Yuv420p, HasBt709sColours) {
  for (int corner = 0; corner < 8; ++corner) {
    const at::Tensor colour = at::tensor({corner & 1, corner >> 1 & 1, corner >> 2 & 1}, at::kByte) * 255;
    const at::Tensor flat = colour.expand({4, 6, 3}).contiguous();
    EXPECT_LE(largest_difference(run::to_yuv420p(flat), by_swscale(flat)), 1) << corner;
  }
  const at::Tensor white = run::to_yuv420p(at::full({2, 2, 3}, 255, at::kByte));
  EXPECT_TRUE(at::equal(white, at::tensor({235, 235, 235, 235, 128, 128}, at::kByte)));
  const at::Tensor red = run::to_yuv420p(at::tensor({255, 0, 0}, at::kByte).expand({2, 2, 3}));
  EXPECT_TRUE(at::equal(red, at::tensor({63, 63, 63, 63, 102, 240}, at::kByte)));
}

TEST(Yuv420p, TheWriterTakesPlanes) {
  const test::TemporaryFolder folder;
  at::manual_seed(2);
  const at::Tensor rgb = at::randint(256, {33, 47, 3}).to(at::kByte);
  const media::VideoOptions options{.width = 47, .height = 33, .crf = 0};
  for (const bool planes : {false, true}) {
    media::VideoWriter writer(folder.path() / (planes ? "planes.mp4" : "rgb.mp4"), options, false);
    ASSERT_TRUE(writer.takes_yuv420p());
    for (int i = 0; i < 3; ++i) {
      if (planes) {
        writer.write_yuv420p(run::to_yuv420p(rgb).const_data_ptr<uint8_t>());
      } else {
        writer.write(rgb.const_data_ptr<uint8_t>());
      }
    }
    writer.finish();
  }
  const test::DecodedVideo a = test::read_video(folder.path() / "rgb.mp4"),
                           b = test::read_video(folder.path() / "planes.mp4");
  ASSERT_EQ(b.frames.size(), 3U);
  ASSERT_EQ(a.frames[2].rgb.size(), b.frames[2].rgb.size());
  for (size_t i = 0; i < a.frames[2].rgb.size(); ++i) EXPECT_NEAR(a.frames[2].rgb[i], b.frames[2].rgb[i], 6) << i;
}

TEST(Yuv420p, TheWriterTakesThemOnlyWhereNothingElseIsToBeDone) {
  const test::TemporaryFolder folder;
  media::VideoOptions options{.width = 32, .height = 32};
  options.output_width = options.output_height = 64;
  EXPECT_FALSE(media::VideoWriter(folder.path() / "a.mp4", options, false).takes_yuv420p()) << "it is to be scaled";
  options.output_width = options.output_height = 0;
  options.pixel_format = "yuv444p";
  EXPECT_FALSE(media::VideoWriter(folder.path() / "b.mp4", options, false).takes_yuv420p());
}

}  // namespace
}  // namespace opensora
