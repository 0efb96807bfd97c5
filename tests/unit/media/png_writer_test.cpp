// PNG files, read back through FFmpeg's decoder (support/read_video.h).
#include "media/png.h"

#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

extern "C" {
#include <libavutil/mem.h>
}

#include <limits>

#include "opensora/error.h"
#include "support/contains.h"
#include "support/media_fixture.h"
#include "support/read_video.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;
using test::Color;
using test::contains;
using test::DecodedVideo;
using test::Files;
using test::FileSizeLimit;
using test::message_of;
using test::noise;
using test::Pixels;
using test::read_video;
using test::solid;

class PngWriterTest : public test::MediaTest {};

TEST_F(PngWriterTest, ExactRoundTrip) {
  for (const auto& [width, height] : std::vector<std::pair<int, int>>{{1, 1}, {3, 5}, {64, 48}, {101, 7}}) {
    const fs::path path = folder_ / fmt::format("{}x{}.png", width, height);
    const Pixels pixels = noise(width, height);
    write_png(path, pixels.data(), width, height, false);
    const DecodedVideo picture = read_video(path);
    EXPECT_EQ(picture.codec, "png");
    EXPECT_EQ(picture.pixel_format, "rgb24");
    EXPECT_EQ(picture.width, width);
    EXPECT_EQ(picture.height, height);
    ASSERT_EQ(picture.frames.size(), 1u);
    EXPECT_EQ(picture.frames[0].rgb, pixels);
  }
}

TEST_F(PngWriterTest, ScalesAnyColourWithoutShift) {
  for (const Color& color : {Color{0, 0, 0}, Color{255, 255, 255}, Color{255, 0, 0}, Color{10, 200, 99}}) {
    const fs::path path = folder_ / "a.png";
    write_png(path, solid(40, 30, color).data(), 40, 30, /*overwrite=*/true, 61, 17);
    const DecodedVideo picture = read_video(path);
    EXPECT_EQ(picture.width, 61);
    EXPECT_EQ(picture.height, 17);
    ASSERT_EQ(picture.frames.size(), 1u);
    for (const auto& [x, y] : {std::pair{0, 0}, {30, 8}, {60, 16}}) {
      EXPECT_NEAR(picture.frames[0].at(x, y, 0, 61), color.r, 1);
      EXPECT_NEAR(picture.frames[0].at(x, y, 1, 61), color.g, 1);
      EXPECT_NEAR(picture.frames[0].at(x, y, 2, 61), color.b, 1);
    }
  }
}

// zlib's failure to get memory comes through FFmpeg as "generic error in an external library".
TEST_F(PngWriterTest, AnEncoderWithoutMemoryIsOutOfMemory) {
  const Pixels pixels = noise(64, 48);
  for (const size_t longest_block : {20'000, 40'000, 60'000}) {  // bytes; zlib's window alone has 64 KiB
    av_max_alloc(longest_block);
    EXPECT_THROW(write_png(folder_ / "a.png", pixels.data(), 64, 48, false), OutOfMemoryError) << longest_block;
    av_max_alloc(std::numeric_limits<int>::max());
    EXPECT_FALSE(fs::exists(folder_ / "a.png"));
  }
  write_png(folder_ / "a.png", pixels.data(), 64, 48, false);
}

TEST_F(PngWriterTest, ObeysTheOverwriteRuleAndChecksSizes) {
  const Pixels pixels = solid(4, 4, {1, 2, 3});
  const fs::path path = folder_ / "a.png";
  write_png(path, pixels.data(), 4, 4, false);
  EXPECT_TRUE(contains(message_of<OutputError>([&] { write_png(path, pixels.data(), 4, 4, false); }), "`overwrite`"));
  write_png(path, pixels.data(), 4, 4, true);
  EXPECT_THROW(write_png(folder_ / "b.png", pixels.data(), 0, 4, false), UsageError);
  EXPECT_TRUE(contains(message_of<OutputError>([&] { write_png(folder_ / "c" / "a.png", pixels.data(), 4, 4, false); }),
                       "there is no folder"));
  EXPECT_EQ(files(), Files{"a.png"});
}

TEST_F(PngWriterTest, FullDiskIsAnOutputErrorAndLeavesNothing) {
  const Pixels pixels = noise(64, 64);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{10000}}) {  // of about 12400 bytes
    const std::string message = message_of<OutputError>([&] {
      const FileSizeLimit full(limit);
      write_png(folder_ / "a.png", pixels.data(), 64, 64, false);
    });
    EXPECT_EQ(message, (folder_ / "a.png").string() + ": cannot write: File too large") << limit;
    EXPECT_EQ(files(), Files{}) << limit;
  }
}

}  // namespace
}  // namespace opensora::media
