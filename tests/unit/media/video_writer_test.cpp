// Written files are read back through FFmpeg's decoders (support/read_video.h), and their boxes by hand.
#include <gtest/gtest.h>
#include <malloc.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "media/png.h"
#include "media/video_writer.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/media_fixture.h"
#include "support/read_video.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;
using test::Color;
using test::contains;
using test::DecodedFrame;
using test::DecodedVideo;
using test::Files;
using test::FileSizeLimit;
using test::message_of;
using test::noise;
using test::Pixels;
using test::read_video;
using test::solid;

// Smooth in every channel, and different in every frame.
Pixels gradient(int width, int height, int frame = 0) {
  Pixels pixels;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      pixels.push_back(static_cast<uint8_t>(255 * x / width));
      pixels.push_back(static_cast<uint8_t>(255 * y / height));
      pixels.push_back(static_cast<uint8_t>(std::min(255, 16 * frame)));
    }
  }
  return pixels;
}

// Slow waves and fine grain that move, to give the encoder's motion search and rate control something to decide.
Pixels waves(int width, int height, int frame) {
  Pixels pixels = noise(width, height, static_cast<uint32_t>(frame));
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        uint8_t& value = pixels[(static_cast<size_t>(y) * width + x) * 3 + channel];
        const double wave = std::sin((x + 3 * frame) * 0.02 + channel) * std::cos((y - frame) * 0.03);
        value = static_cast<uint8_t>(124 + 100 * wave + (value >> 5));
      }
    }
  }
  return pixels;
}

double mean_error(const Pixels& a, const Pixels& b) {
  EXPECT_EQ(a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) sum += std::abs(a[i] - b[i]);
  return sum / static_cast<double>(a.size());
}

void write_bytes(const fs::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; }

uint32_t big_endian(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes.at(i));
  return value;
}

// The types of an MP4's top-level boxes, in order.
std::vector<std::string> top_boxes(const fs::path& file) {
  const std::string bytes = test::read_file(file);
  std::vector<std::string> boxes;
  for (size_t at = 0; at + 8 <= bytes.size(); at += big_endian(bytes, at)) {
    boxes.push_back(bytes.substr(at + 4, 4));
    if (big_endian(bytes, at) < 8) break;
  }
  return boxes;
}

// Seconds, as the file's header (not the track's) has them.
double movie_duration(const fs::path& file) {
  const std::string bytes = test::read_file(file);
  const size_t box = bytes.find("mvhd") + 4;  // version and flags, two dates, time scale, duration: 4 bytes each
  return static_cast<double>(big_endian(bytes, box + 16)) / big_endian(bytes, box + 12);
}

class VideoWriterTest : public test::MediaTest {
 protected:
  fs::path write_frames(const std::string& name, const VideoOptions& options, const std::vector<Pixels>& frames) {
    fs::path path = folder_ / name;
    VideoWriter writer(path, options, /*overwrite=*/false);
    for (const Pixels& frame : frames) writer.write(frame.data());
    writer.finish();
    return path;
  }
};

TEST_F(VideoWriterTest, RoundTrip) {
  constexpr int kFrames = 17;
  std::vector<Pixels> frames;
  frames.reserve(kFrames);
  for (int i = 0; i < kFrames; ++i) frames.push_back(gradient(96, 64, i));
  const fs::path path = write_frames("a.mp4", {.width = 96, .height = 64, .fps = 24}, frames);
  EXPECT_EQ(files(), Files{"a.mp4"});

  const DecodedVideo video = read_video(path);
  EXPECT_EQ(video.codec, "h264");
  EXPECT_EQ(video.width, 96);
  EXPECT_EQ(video.height, 64);
  EXPECT_EQ(video.pixel_format, "yuv420p");
  EXPECT_EQ(video.color_space, "bt709");
  EXPECT_EQ(video.color_primaries, "bt709");
  EXPECT_EQ(video.color_transfer, "bt709");
  EXPECT_EQ(video.color_range, "tv");
  EXPECT_EQ(video.chroma_location, "left");
  ASSERT_EQ(video.frames.size(), kFrames);
  for (int i = 0; i < kFrames; ++i) {
    EXPECT_NEAR(video.frames[i].time, i / 24.0, 1e-9) << i;
    EXPECT_LT(mean_error(video.frames[i].rgb, frames[i]), 2.0) << i;
  }
}

TEST_F(VideoWriterTest, KeepsRateAndCountExactly) {
  const Pixels frame = gradient(32, 32);
  const std::vector<FrameRate> rates = {1,
                                        7,
                                        24,
                                        30,
                                        60,
                                        1000,
                                        FrameRate(24000, 1001),
                                        FrameRate(30000, 1001),
                                        FrameRate(60000, 1001),
                                        FrameRate(25, 2),
                                        FrameRate(999999999, 1000000)};
  for (const FrameRate& rate : rates) {
    for (const int count : {1, 2, 5, 33}) {
      const double fps = rate.value();
      const fs::path path = write_frames(std::to_string(rate.numerator) + "-" + std::to_string(count) + ".mp4",
                                         {.width = 32, .height = 32, .fps = rate}, std::vector<Pixels>(count, frame));
      const DecodedVideo video = read_video(path);
      EXPECT_EQ(video.frames.size(), static_cast<size_t>(count)) << fps;
      EXPECT_NEAR(video.fps, fps, 1e-9 * fps) << count;
      EXPECT_NEAR(video.duration, count / fps, 1e-9) << fps;
      ASSERT_FALSE(video.frames.empty());
      EXPECT_EQ(video.frames.front().time, 0.0);
      EXPECT_NEAR(video.frames.back().time, (count - 1) / fps, 1e-9) << fps;
      EXPECT_NEAR(movie_duration(path), count / fps, 1e-9) << fps;
    }
  }
  for (const char* name : {"a.mkv", "a.mov"}) {
    const fs::path path =
        write_frames(name, {.width = 32, .height = 32, .fps = FrameRate(24000, 1001)}, std::vector<Pixels>(33, frame));
    EXPECT_NEAR(read_video(path).fps, 24000 / 1001.0, 1e-3) << name;
  }
}

TEST_F(VideoWriterTest, ColoursAreBt709LimitedRange) {
  // Y = 16 + 219/255 (0.2126 R + 0.7152 G + 0.0722 B): BT.601 would give 81, 145 and 41 for the primaries.
  struct Patch {
    Color color;
    int luma;
  };
  const std::vector<Patch> patches = {
      {{255, 0, 0}, 63}, {{0, 255, 0}, 173},     {{0, 0, 255}, 32},   {{255, 255, 255}, 235},
      {{0, 0, 0}, 16},   {{128, 128, 128}, 126}, {{200, 30, 90}, 77},
  };
  for (const Patch& patch : patches) {
    const auto [r, g, b] = patch.color;
    const std::string name = fmt::format("{}-{}-{}.mp4", r, g, b);
    const fs::path path = write_frames(name, {.width = 64, .height = 48, .crf = 1}, {solid(64, 48, patch.color)});
    const DecodedVideo video = read_video(path);
    ASSERT_EQ(video.frames.size(), 1u);
    const DecodedFrame& frame = video.frames[0];
    for (const int x : {0, 31, 63}) {
      EXPECT_NEAR(frame.luma[24 * 64 + x], patch.luma, 1) << name;
      EXPECT_NEAR(frame.at(x, 24, 0, 64), r, 3) << name;
      EXPECT_NEAR(frame.at(x, 24, 1, 64), g, 3) << name;
      EXPECT_NEAR(frame.at(x, 24, 2, 64), b, 3) << name;
    }
  }
}

TEST_F(VideoWriterTest, IndexComesFirst) {
  const fs::path path = write_frames("a.mp4", {.width = 64, .height = 64}, {noise(64, 64), noise(64, 64, 2)});
  const std::vector<std::string> boxes = top_boxes(path);
  const auto moov = std::find(boxes.begin(), boxes.end(), "moov");
  const auto mdat = std::find(boxes.begin(), boxes.end(), "mdat");
  ASSERT_NE(moov, boxes.end());
  ASSERT_NE(mdat, boxes.end());
  EXPECT_LT(moov, mdat);
}

TEST_F(VideoWriterTest, OddSizesAreRoundedUpByReplicatingTheEdge) {
  Pixels pixels = solid(33, 21, {40, 40, 40});
  for (int y = 0; y < 21; ++y) {
    for (int channel = 0; channel < 3; ++channel) pixels[(y * 33 + 32) * 3 + channel] = 220;  // the last column
  }
  const fs::path path = write_frames("a.mp4", {.width = 33, .height = 21, .crf = 1}, {pixels});
  const DecodedVideo video = read_video(path);
  EXPECT_EQ(video.width, 34);
  EXPECT_EQ(video.height, 22);
  ASSERT_EQ(video.frames.size(), 1u);
  for (const int y : {0, 20, 21}) {
    EXPECT_NEAR(video.frames[0].at(5, y, 0, 34), 40, 4) << y;
    EXPECT_NEAR(video.frames[0].at(32, y, 0, 34), 220, 6) << y;
    EXPECT_NEAR(video.frames[0].at(33, y, 0, 34), 220, 6) << y;
  }
}

TEST_F(VideoWriterTest, TakesEverySmallSize) {
  for (const int width : {1, 2, 3, 15, 16, 17}) {
    for (const int height : {1, 2, 18}) {
      const fs::path path = write_frames(fmt::format("{}x{}.mp4", width, height), {.width = width, .height = height},
                                         {solid(width, height, {200, 100, 50})});
      const DecodedVideo video = read_video(path);
      EXPECT_EQ(video.width, width + width % 2);
      EXPECT_EQ(video.height, height + height % 2);
      ASSERT_EQ(video.frames.size(), 1u);
      EXPECT_NEAR(video.frames[0].at(0, 0, 0, video.width), 200, 6) << width << "x" << height;
    }
  }
}

TEST_F(VideoWriterTest, ScalesToTheOutputSize) {
  const VideoOptions options{.width = 64, .height = 32, .output_width = 128, .output_height = 96, .crf = 1};
  const DecodedVideo video = read_video(write_frames("a.mp4", options, {gradient(64, 32)}));
  EXPECT_EQ(video.width, 128);
  EXPECT_EQ(video.height, 96);
  ASSERT_EQ(video.frames.size(), 1u);
  // The gradient's pixel centres: output x lies at input (x + 0.5) / 2 - 0.5.
  for (const int x : {20, 64, 100}) {
    EXPECT_NEAR(video.frames[0].at(x, 48, 0, 128), 255 * ((x + 0.5) / 2 - 0.5) / 64, 3) << x;
  }
  const VideoOptions odd{.width = 64, .height = 32, .output_width = 51, .output_height = 0};
  const DecodedVideo narrow = read_video(write_frames("b.mp4", odd, {solid(64, 32, {90, 160, 30})}));
  EXPECT_EQ(narrow.width, 52);
  EXPECT_EQ(narrow.height, 32);
  EXPECT_NEAR(narrow.frames.at(0).at(51, 31, 1, 52), 160, 3);
}

TEST_F(VideoWriterTest, CrfTradesSizeForQuality) {
  const std::vector<Pixels> frames = {noise(128, 128), noise(128, 128, 2), noise(128, 128, 3)};
  uintmax_t larger = UINTMAX_MAX;
  for (const int crf : {0, 10, 18, 30, 51}) {
    const fs::path path = write_frames(std::to_string(crf) + ".mp4", {.width = 128, .height = 128, .crf = crf}, frames);
    EXPECT_LT(fs::file_size(path), larger) << crf;
    larger = fs::file_size(path);
  }
}

TEST_F(VideoWriterTest, SameFramesGiveSameBytes) {
  std::vector<Pixels> frames;
  frames.reserve(30);
  for (int i = 0; i < 30; ++i) frames.push_back(waves(333, 181, i));
  for (const int threads : {0, 1, 4}) {
    const VideoOptions options{.width = 333, .height = 181, .threads = threads};
    const std::string first = test::read_file(write_frames(fmt::format("{}.mp4", threads), options, frames));
    EXPECT_FALSE(first.empty());
    EXPECT_EQ(first.find("Lavf"), std::string::npos);
    for (const int garbage : {17, 85, 200}) {
      mallopt(M_PERTURB, garbage);  // fresh memory is full of something: x264 once let it into the video
      const std::string again =
          test::read_file(write_frames(fmt::format("{}-{}.mp4", threads, garbage), options, frames));
      mallopt(M_PERTURB, 0);
      EXPECT_TRUE(first == again) << threads << " threads, " << garbage;
    }
  }
}

TEST_F(VideoWriterTest, LeavesNothingWithoutFinish) {
  const Pixels frame = noise(64, 64);
  {
    VideoWriter writer(folder_ / "a.mp4", {.width = 64, .height = 64}, false);
    for (int i = 0; i < 80; ++i) writer.write(frame.data());
    EXPECT_EQ(writer.frames_written(), 80);
    EXPECT_FALSE(fs::exists(folder_ / "a.mp4"));
  }
  EXPECT_EQ(files(), Files{});
}

TEST_F(VideoWriterTest, NeedsAFrame) {
  {
    VideoWriter writer(folder_ / "a.mp4", {.width = 64, .height = 64}, false);
    EXPECT_TRUE(contains(message_of<OutputError>([&] { writer.finish(); }), "at least one frame"));
  }
  EXPECT_EQ(files(), Files{});
}

TEST_F(VideoWriterTest, ObeysTheOverwriteRule) {
  const fs::path path = folder_ / "a.mp4";
  write_bytes(path, "old");
  const VideoOptions options{.width = 16, .height = 16};
  EXPECT_TRUE(contains(message_of<OutputError>([&] { VideoWriter writer(path, options, false); }), "`overwrite`"));
  EXPECT_EQ(test::read_file(path), "old");
  VideoWriter writer(path, options, true);
  writer.write(solid(16, 16, {1, 2, 3}).data());
  writer.finish();
  EXPECT_EQ(read_video(path).frames.size(), 1u);
}

TEST_F(VideoWriterTest, TakesNamesThatLookLikeUrls) {
  const fs::path path = write_frames("http:a%03d b.mp4", {.width = 16, .height = 16}, {solid(16, 16, {1, 2, 3})});
  EXPECT_EQ(files(), Files{"http:a%03d b.mp4"});
  EXPECT_EQ(read_video(path).frames.size(), 1u);
}

TEST_F(VideoWriterTest, RefusesOptionsOutOfRange) {
  const auto message = [&](const VideoOptions& options) {
    return message_of<UsageError>([&] { VideoWriter writer(folder_ / "a.mp4", options, false); });
  };
  EXPECT_TRUE(contains(message({.width = 16, .height = 16, .fps = 0}), "0 frames a second: expected 1 to 1000"));
  EXPECT_TRUE(contains(message({.width = 16, .height = 16, .fps = 1001}), "1001 frames a second"));
  EXPECT_TRUE(contains(message({.width = 16, .height = 16, .crf = 52}), "crf 52: expected 0"));
  EXPECT_TRUE(contains(message({.width = 16, .height = 16, .threads = -1}), "-1 encoder threads"));
  EXPECT_TRUE(contains(message({.width = 0, .height = 16}), "0x16"));
  EXPECT_TRUE(contains(message({.width = 16, .height = -3}), "16x-3"));
  EXPECT_TRUE(contains(message({.width = 16, .height = 16, .output_width = 20000}), "20000x16"));
  EXPECT_EQ(files(), Files{});
}

TEST_F(VideoWriterTest, FullDiskIsAnOutputErrorAndLeavesNothing) {
  const VideoOptions options{.width = 64, .height = 64, .crf = 1};
  const std::vector<Pixels> frames = {noise(64, 64), noise(64, 64, 2), noise(64, 64, 3), noise(64, 64, 4)};
  const fs::path whole = write_frames("whole.mp4", options, frames);
  const auto size = static_cast<rlim_t>(fs::file_size(whole));
  fs::remove(whole);

  for (const rlim_t limit : {rlim_t{0}, rlim_t{4096}, size / 2, size - 1}) {  // the last: while moving the index
    const std::string message = message_of<OutputError>([&] {
      const FileSizeLimit full(limit);
      write_frames("a.mp4", options, frames);
    });
    EXPECT_TRUE(message.starts_with((folder_ / "a.mp4").string() + ": cannot write")) << limit << " " << message;
    EXPECT_TRUE(message.ends_with(": File too large")) << limit << " " << message;
    EXPECT_EQ(files(), Files{}) << limit;
  }
}

TEST_F(VideoWriterTest, EncoderIsSilent) {
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  EXPECT_NO_THROW({
    write_frames("a.mp4", {.width = 63, .height = 63, .output_width = 31}, {noise(63, 63)});
    write_png(folder_ / "a.png", noise(63, 63).data(), 63, 63, false, 40, 40);
  });
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace opensora::media
