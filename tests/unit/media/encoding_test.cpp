// Codecs, pixel formats and containers; and the look at a file before it gets its name.
#include "media/video_writer.h"

#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "media/ffmpeg_functions.h"
#include "media/video_info.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/read_video.h"
#include "support/temporary_folder.h"
#include "support/write_media.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::DecodedVideo;
using test::message_of;
using test::read_file;
using test::read_video;
using Pixels = std::vector<uint8_t>;

// Colours that change from pixel to pixel, and with the frame.
Pixels colourful(int width, int height, int frame) {
  Pixels pixels;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const bool is_red = (x + frame) % 2 == 0;
      const int values[] = {is_red ? 220 : 30, 255 * y / height, is_red ? 20 : 200};
      for (const int value : values) pixels.push_back(static_cast<uint8_t>(value));
    }
  }
  return pixels;
}

// Like colourful(), but kind to lossy codecs and to shared chroma.
Pixels smooth(int width, int height, int frame) {
  Pixels pixels;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int values[] = {40 + 150 * x / width, 40 + 150 * y / height, 60 + 8 * frame};
      for (const int value : values) pixels.push_back(static_cast<uint8_t>(value));
    }
  }
  return pixels;
}

int largest_error(const Pixels& a, const Pixels& b) {
  EXPECT_EQ(a.size(), b.size());
  int largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

class EncodingTest : public testing::Test {
 protected:
  using Picture = std::function<Pixels(int width, int height, int frame)>;

  fs::path write(const std::string& name, VideoOptions options, const Picture& picture = smooth, int count = 4) const {
    fs::path path = folder_.path() / name;
    if (options.width == 0) options.width = 64, options.height = 48;
    VideoWriter writer(path, options, /*overwrite=*/true);
    for (int i = 0; i < count; ++i) writer.write(picture(options.width, options.height, i).data());
    writer.finish();
    return path;
  }

  static bool has(const std::string& codec) {
    return codec == "ffv1" || test::has_encoder(codec == "h264" ? "libx264" : "libx265");
  }

  test::TemporaryFolder folder_;
};

TEST(FfmpegFunction, WhatIsAbsentIsNamed) {
  const auto error_of = [](const char* library, const char* name) -> std::string {
    try {
      ffmpeg_function(library, name);
    } catch (const OutputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_TRUE(contains(error_of("libavutil.so.1", "av_free"), "FFmpeg cannot be used: libavutil.so.1: "));
  EXPECT_TRUE(contains(error_of("libc.so.6", "av_freeze"), "av_freeze"));
  EXPECT_NE(ffmpeg_function("libc.so.6", "free"), nullptr);
}

TEST_F(EncodingTest, EveryCodecInEveryContainer) {
  for (const auto& [codec, ffmpeg_name] :
       std::vector<std::pair<std::string, std::string>>{{"h264", "h264"}, {"h265", "hevc"}, {"ffv1", "ffv1"}}) {
    if (!has(codec)) continue;
    for (const std::string extension : {".mp4", ".mov", ".mkv"}) {
      if (codec == "ffv1" && extension == ".mp4") continue;
      const std::string comment = "{\"prompt\":\"é \U0001F30A\",\"more\":\"" + std::string(70000, 'x') + "\"}";
      const fs::path path = write(codec + extension, {.fps = 24, .codec = codec, .comment = comment});
      const VideoInfo info = read_video_info(path);
      EXPECT_EQ(info.codec, ffmpeg_name) << path;
      EXPECT_EQ(info.frames, 4) << path;
      EXPECT_EQ(info.fps, 24) << path;
      EXPECT_NEAR(info.duration, 4 / 24.0, 0.002) << path;
      EXPECT_TRUE(info.comment == comment) << path << info.comment.substr(0, 100);
      const DecodedVideo video = read_video(path);
      ASSERT_EQ(video.frames.size(), 4U) << path;
      EXPECT_LT(largest_error(video.frames[3].rgb, smooth(64, 48, 3)), 12) << path;
    }
  }
}

TEST_F(EncodingTest, H265IsNamedAsApplesPlayersWantIt) {
  if (!has("h265")) GTEST_SKIP();
  for (const char* name : {"a.mp4", "a.mov"}) {
    const std::string bytes = read_file(write(name, {.codec = "h265"}));
    EXPECT_TRUE(contains(bytes, "hvc1")) << name;
    EXPECT_FALSE(contains(bytes, "hev1")) << name;
  }
}

TEST_F(EncodingTest, PixelFormatsAreTaggedAsTheyAreConverted) {
  for (const std::string format : {"yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"}) {
    for (const std::string codec : {"h264", "h265", "ffv1"}) {
      if (!has(codec)) continue;
      const DecodedVideo video = read_video(write("a.mkv", {.codec = codec, .pixel_format = format, .crf = 1}));
      const std::string which = codec + " " + format;
      EXPECT_EQ(video.pixel_format, format) << which;
      EXPECT_EQ(video.color_space, "bt709") << which;
      EXPECT_EQ(video.color_primaries, "bt709") << which;
      EXPECT_EQ(video.color_transfer, "bt709") << which;
      EXPECT_EQ(video.color_range, "tv") << which;
      ASSERT_EQ(video.frames.size(), 4U) << which;
      EXPECT_LT(largest_error(video.frames[2].rgb, smooth(64, 48, 2)), 9) << which;
    }
  }
}

TEST_F(EncodingTest, FullChromaIsKept) {
  // Red and blue columns, one pixel each: halved chroma makes purple of them.
  const auto error = [&](const VideoOptions& options) {
    return largest_error(read_video(write("a.mkv", options, colourful)).frames.at(1).rgb, colourful(64, 48, 1));
  };
  EXPECT_GT(error({.codec = "ffv1", .pixel_format = "yuv420p"}), 50);
  EXPECT_LE(error({.codec = "ffv1", .pixel_format = "yuv444p"}), 4);
  EXPECT_LE(error({.codec = "h264", .pixel_format = "yuv444p", .crf = 1}), 12);
}

TEST_F(EncodingTest, Ffv1AndLosslessRgbGiveTheFramesBackExactly) {
  const std::vector<VideoOptions> all = {{.codec = "ffv1"},
                                         {.codec = "ffv1", .pixel_format = "rgb"},
                                         {.codec = "ffv1", .pixel_format = "bgr0"},
                                         {.codec = "h264", .pixel_format = "rgb", .crf = 0}};
  for (VideoOptions options : all) {
    for (const auto& [width, height] : std::vector<std::pair<int, int>>{{64, 48}, {33, 21}, {2, 2}, {400, 300}}) {
      options.width = width, options.height = height;
      const DecodedVideo video = read_video(write("a.mkv", options, colourful, 3));
      const std::string which = fmt::format("{} {} {}x{}", options.codec, options.pixel_format, width, height);
      EXPECT_EQ(video.width, width) << which;
      EXPECT_EQ(video.height, height) << which;
      EXPECT_EQ(video.color_range, "pc") << which;
      ASSERT_EQ(video.frames.size(), 3U) << which;
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(video.frames[i].rgb == colourful(width, height, i)) << which << " " << i;
    }
  }
}

TEST_F(EncodingTest, SizesAreRoundedUpOnlyWhereChromaNeedsIt) {
  const auto size = [&](const std::string& format) {
    const VideoInfo info =
        read_video_info(write("a.mkv", {.width = 33, .height = 21, .codec = "h264", .pixel_format = format}));
    return fmt::format("{}x{}", info.width, info.height);
  };
  EXPECT_EQ(size("yuv420p"), "34x22");
  EXPECT_EQ(size("yuv422p"), "34x21");
  EXPECT_EQ(size("yuv444p"), "33x21");
}

TEST_F(EncodingTest, SameFramesGiveSameBytesAndSilence) {
  testing::internal::CaptureStderr();
  for (const std::string codec : {"h264", "h265", "ffv1"}) {
    if (!has(codec)) continue;
    for (const int threads : {0, 1, 3}) {
      const VideoOptions options{.width = 130, .height = 98, .codec = codec, .threads = threads};
      const std::string first = read_file(write("a.mkv", options, colourful, 12));
      EXPECT_TRUE(first == read_file(write("b.mkv", options, colourful, 12))) << codec << " " << threads;
    }
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

// x265 is known to leave times of short videos to chance.
TEST_F(EncodingTest, ShortVideosAreWholeInEveryCodec) {
  for (const std::string codec : {"h264", "h265", "ffv1"}) {
    if (!has(codec)) continue;
    for (const int count : {1, 2, 3, 4, 5}) {
      for (const std::string extension : {".mov", ".mkv"}) {
        const std::string first = read_file(write("a" + extension, {.codec = codec}, smooth, count));
        EXPECT_TRUE(first == read_file(write("b" + extension, {.codec = codec}, smooth, count))) << codec << count;
        EXPECT_EQ(read_video(folder_.path() / ("a" + extension)).frames.size(), static_cast<size_t>(count)) << codec;
      }
    }
  }
}

TEST_F(EncodingTest, CrfCountsForH265) {
  if (!has("h265")) GTEST_SKIP();
  const auto bytes = [&](int crf) { return fs::file_size(write("a.mp4", {.codec = "h265", .crf = crf}, colourful)); };
  EXPECT_GT(bytes(5), bytes(40));
}

TEST_F(EncodingTest, WhatDoesNotGoTogetherIsRefused) {
  const auto message = [&](const std::string& name, const VideoOptions& options) {
    return message_of<UsageError>([&] { write(name, options); });
  };
  const std::string avi = message("a.avi", {});
  EXPECT_TRUE(contains(avi, "a.avi: a video is written as .mp4, .mov or .mkv, found \".avi\"")) << avi;
  EXPECT_TRUE(contains(message("a", {}), "found \"\""));
  EXPECT_TRUE(contains(message("a.mp4", {.codec = "ffv1"}), "FFV1 does not go into .mp4; name a .mkv instead"));
  EXPECT_TRUE(contains(message("a.mp4", {.codec = "av1"}), "`codec`: expected h264, h265 or ffv1, found \"av1\""));
  const std::string format = message("a.mp4", {.pixel_format = "yuva420p"});
  EXPECT_TRUE(contains(format, "`pix_fmt` yuva420p: this FFmpeg's H.264 encoder takes rgb, yuv420p, ")) << format;
  EXPECT_TRUE(contains(format, "yuv444p10le")) << format;
  EXPECT_FALSE(contains(format, "yuvj")) << format;
  EXPECT_TRUE(contains(message("a.mkv", {.codec = "ffv1", .pixel_format = "nonsense"}), "FFV1 encoder takes"));
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

// Each format that is offered works.
TEST_F(EncodingTest, EveryOfferedPixelFormatCanBeWritten) {
  for (const std::string codec : {"h264", "h265", "ffv1"}) {
    if (!has(codec)) continue;
    for (const std::string& format : pixel_formats(codec)) {
      EXPECT_NO_THROW(write("a.mkv", {.width = 34, .height = 30, .codec = codec, .pixel_format = format}, smooth, 1))
          << codec << " " << format;
    }
  }
}

// --- verify_video ---------------------------------------------------------------------------------

class VerifyVideoTest : public EncodingTest {
 protected:
  static VideoInfo expected() {
    return {.width = 64,
            .height = 48,
            .frames = 4,
            .fps = 24,
            .duration = 4 / 24.0,
            .codec = "h264",
            .pixel_format = "yuv420p",
            .comment = "made"};
  }
  std::string error(const fs::path& file, const VideoInfo& wanted) const {
    std::string text = message_of<OutputError>([&] { verify_video(file, wanted, "final.mp4"); });
    EXPECT_TRUE(text.starts_with("final.mp4: ")) << text;
    return text;
  }
};

TEST_F(VerifyVideoTest, AWholeFilePasses) {
  EXPECT_NO_THROW(verify_video(write("a.mp4", {.comment = "made"}), expected(), "final.mp4"));
}

TEST_F(VerifyVideoTest, EachDifferenceIsNamed) {
  const fs::path file = write("a.mp4", {.comment = "made"});
  const auto changed = [&](const std::function<void(VideoInfo&)>& change) {
    VideoInfo wanted = expected();
    change(wanted);
    return error(file, wanted);
  };
  EXPECT_TRUE(contains(changed([](VideoInfo& v) { v.frames = 5; }), "expected frames 5, found 4"));
  EXPECT_TRUE(contains(changed([](VideoInfo& v) { v.width = 66; }), "expected size 66x48, found 64x48"));
  EXPECT_TRUE(contains(changed([](VideoInfo& v) { v.duration = 0.2; }), "expected seconds 0.200, found 0.167"));
  EXPECT_TRUE(contains(changed([](VideoInfo& v) { v.codec = "hevc"; }), "expected codec hevc, found h264"));
  EXPECT_TRUE(contains(changed([](VideoInfo& v) { v.comment = ""; }), "comment of 0 bytes, found 4 bytes"));
}

TEST_F(VerifyVideoTest, TruncatedAndOtherFilesFail) {
  const std::string whole = read_file(write("a.mp4", {.comment = "made"}));
  // A head that is cut, a tail that is missing, a byte that is missing, nothing, and no video.
  for (const size_t size : {size_t{30}, whole.size() / 2, whole.size() - 1}) {
    error(folder_.write("cut.mp4", whole.substr(0, size)), expected());
  }
  EXPECT_TRUE(contains(error(folder_.write("cut.mp4", ""), expected()), "cannot be read again"));
  EXPECT_TRUE(contains(error(folder_.write("cut.mp4", "text"), expected()), "cannot be read again"));
  EXPECT_TRUE(contains(error(folder_.path() / "none.mp4", expected()), "cannot be read again"));
}

}  // namespace
}  // namespace opensora::media
