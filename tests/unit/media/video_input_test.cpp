// Videos as people have them: time stamps, joined and cut recordings, forms of pixels, and files that only claim much.
#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "media/media_reader.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/file_error.h"
#include "support/log_capture.h"
#include "support/temporary_folder.h"
#include "support/write_media.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::make_frame;
using test::MediaSpec;
using test::read_file;

const fs::path kCases = fs::path(OPENSORA_TEST_DATA) / "cases";
constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

// `count` frames; frame i is 3 * i bright all over.
std::vector<FramePtr> ramp(const std::string& pixel_format, int count, int width = 32, int height = 32) {
  std::vector<FramePtr> frames;
  for (int i = 0; i < count; ++i) {
    frames.push_back(
        make_frame(pixel_format, width, height, [&](int, int, int component) { return component == 0 ? 3 * i : 128; }));
  }
  return frames;
}

// Which frames of a ramp are shown, picture by picture.
std::vector<int> shown(const fs::path& path, double fps) {
  MediaReader reader(path, {.fps = fps});
  std::vector<int> frames;
  while (const std::optional<Picture> picture = reader.next()) {
    const size_t middle = (static_cast<size_t>(picture->height / 2) * picture->width + picture->width / 2) * 3;
    frames.push_back(static_cast<int>(std::lround(picture->rgb.at(middle + 1) / 3.0)));
  }
  return frames;
}

std::vector<int> numbers(int begin, int end) {
  std::vector<int> all(end - begin);
  std::iota(all.begin(), all.end(), begin);
  return all;
}

std::vector<int> joined(std::vector<int> first, const std::vector<int>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

// The message with which reading all of the file ends; it names the file and is one line.
std::string error_of_reading(const fs::path& path) {
  return test::input_error(path, [&] { count_pictures(path); });
}

class VideoInputTest : public testing::Test {
 protected:
  fs::path write(const std::string& name, MediaSpec spec, const std::vector<FramePtr>& frames) const {
    if (spec.codec == "libx264") {
      spec.options.insert(spec.options.end(), {{"crf", "1"}, {"preset", "ultrafast"}, {"x264-params", "bframes=2"}});
    }
    test::write_media(folder_.path() / name, spec, frames);
    return folder_.path() / name;
  }
  // A ramp of H.264 with B-frames.
  std::string h264(const std::string& muxer, int fps, int count, int width = 32) const {
    return read_file(write("h264", {.codec = "libx264", .muxer = muxer, .fps = fps}, ramp("yuvj420p", count, width)));
  }

  test::TemporaryFolder folder_;
};

// --- time stamps: expected is what `ffmpeg -vf fps=24` gives ----------------------------------------

TEST_F(VideoInputTest, APauseIsAPauseAlsoAtTheRateThatIsWanted) {
  std::vector<int> expected = {0, 1, 2, 3};
  expected.insert(expected.end(), 20, 3);
  const std::vector<int64_t> stamps = {0, 1, 2, 3, 24, 25, 26, 28};
  for (const int frame : {4, 5, 6, 6, 7}) expected.push_back(frame);
  for (const auto& [codec, muxer, format] : {std::tuple{"libx264", "mp4", "yuvj420p"},
                                             {"libx264", "mpegts", "yuvj420p"},
                                             {"libx264", "flv", "yuvj420p"},
                                             {"ffv1", "matroska", "gray"}}) {
    const fs::path path = write("a", {.codec = codec, .muxer = muxer, .stamps = stamps}, ramp(format, 8));
    EXPECT_EQ(shown(path, 24), expected) << muxer;
    EXPECT_EQ(count_pictures(path, {.fps = 24}), 29) << muxer;
    EXPECT_EQ(shown(path, 0), numbers(0, 8)) << muxer;
    fs::remove(path);
  }
  const fs::path given = kCases / "pause_24fps.mp4";  // 5 frames, 20 pictures of pause, 75 frames
  EXPECT_EQ(count_pictures(given, {.fps = 24}), 100);
  EXPECT_EQ(count_pictures(given), 80);
}

TEST_F(VideoInputTest, TimeStampsAreRoundedToTheNearestPicture) {
  const auto timed = [&](int fps, int ticks, std::vector<int64_t> stamps) {
    const auto count = static_cast<int>(stamps.size());
    return write("a.mkv",
                 {.codec = "ffv1", .muxer = "matroska", .fps = fps, .ticks = ticks, .stamps = std::move(stamps)},
                 ramp("gray", count));
  };
  // Milliseconds; a picture has 41.7 of them. The last frame is shown for 20.
  EXPECT_EQ(shown(timed(50, 20, {0, 20, 21, 100, 104, 105, 230}), 24), (std::vector{1, 2, 4, 5, 5, 5}));
  // Not from 0 on: the first picture is the first frame all the same. (2020 ms are 48.48 pictures.)
  EXPECT_EQ(shown(timed(50, 20, {2000, 2020, 2042, 2083, 2125}), 24), (std::vector{1, 2, 3}));
  // Two frames at one time: the later one.
  EXPECT_EQ(shown(timed(50, 20, {0, 42, 42, 83, 125, 167}), 24), (std::vector{0, 2, 3, 4}));
  // Shorter than half a picture: but a video has one.
  EXPECT_EQ(shown(timed(500, 2, {0, 2}), 24), std::vector{1});
}

TEST_F(VideoInputTest, FramesWithoutTimeStampsComeAtTheirRate) {
  const std::vector<int> expected = {0, 1, 3, 4, 5, 6, 8, 9};
  EXPECT_EQ(shown(folder_.write("a", h264("h264", 30, 10)), 24), expected);
  EXPECT_EQ(shown(folder_.write("b", h264("avi", 30, 10)), 24).size(), 8u);
  const MediaSpec mpeg2{.codec = "mpeg2video", .muxer = "mpeg2video", .fps = 30};
  EXPECT_EQ(shown(write("c", mpeg2, ramp("yuv420p", 10)), 24).size(), 8u);
  const MediaSpec program{.codec = "mpeg2video", .muxer = "vob", .fps = 30};
  EXPECT_EQ(shown(write("d", program, ramp("yuv420p", 10)), 24).size(), 8u);
}

TEST_F(VideoInputTest, RatesAreExact) {
  const fs::path path = folder_.write("a", h264("mp4", 24, 60));
  EXPECT_EQ(shown(path, 24), numbers(0, 60));
  EXPECT_EQ(count_pictures(path, {.fps = 24000.0 / 1001}), 60);
  EXPECT_EQ(count_pictures(path, {.fps = 30}), 75);
  EXPECT_EQ(count_pictures(path, {.fps = 30000.0 / 1001}), 75);
  EXPECT_EQ(count_pictures(path, {.fps = 12}), 30);
  EXPECT_EQ(count_pictures(path, {.fps = 1}), 3);  // 2.5 s
}

TEST_F(VideoInputTest, AnimatedImagesKeepTheirDelays) {
  const std::vector<int64_t> stamps = {0, 50, 54, 58, 75};  // 1/100 s: 12, 12.96, 13.92, 18 pictures
  for (const char* codec : {"gif", "apng"}) {
    const MediaSpec spec{.codec = codec, .muxer = codec, .fps = 25, .ticks = 4, .stamps = stamps};
    const fs::path path = write("a", spec, ramp("gray", 5));
    std::vector<int> found = shown(path, 24);
    ASSERT_GE(found.size(), 19u) << codec;
    found.resize(19);  // how long the last is shown is the format's affair
    std::vector<int> expected(12, 0);
    for (const int frame : {1, 2, 3, 3, 3, 3, 4}) expected.push_back(frame);
    EXPECT_EQ(found, expected) << codec;
    EXPECT_EQ(shown(path, 0), numbers(0, 5)) << codec;
    fs::remove(path);
  }
  EXPECT_EQ(count_pictures(kCases / "delays.gif", {.fps = 24}), 49);  // 0.5 s and 39 frames of 0.04
  // A picture is one picture, whatever delay it has.
  EXPECT_EQ(shown(write("b.png", {.codec = "png"}, ramp("gray", 1)), 24), std::vector{0});
}

// --- recordings that were joined or cut ------------------------------------------------------------

// The segment as another encoder would have numbered its packets.
std::string with_other_counters(std::string stream) {
  constexpr size_t kPacket = 188;
  for (size_t at = 3; at < stream.size(); at += kPacket) {
    const auto byte = static_cast<uint8_t>(stream[at]);
    stream[at] = static_cast<char>((byte & 0xf0) | ((byte + 5) & 0x0f));
  }
  return stream;
}

TEST_F(VideoInputTest, JoinedSegmentsGoOn) {
  const std::string first = h264("mpegts", 24, 12), second = h264("mpegts", 24, 20);
  const std::vector<int> expected = joined(numbers(0, 12), numbers(0, 20));
  const test::LogCapture log;
  EXPECT_EQ(shown(folder_.write("a.ts", first + second), 24), expected);
  EXPECT_EQ(shown(folder_.write("b.ts", first + with_other_counters(second)), 24), expected);
  EXPECT_TRUE(contains(log.text(), "recordings were joined there"));
  EXPECT_EQ(shown(folder_.write("c.ts", with_other_counters(second) + first + first), 24),
            joined(joined(numbers(0, 20), numbers(0, 12)), numbers(0, 12)));
  const fs::path later = write("d.ts", {.codec = "libx264", .muxer = "mpegts", .stamps = {9000, 9001, 9002, 9003}},
                               ramp("yuvj420p", 4));  // 6 minutes on
  EXPECT_EQ(shown(folder_.write("e.ts", first + read_file(later)), 24), joined(numbers(0, 12), numbers(0, 4)));
  EXPECT_EQ(shown(folder_.write("f.ts", first + std::string(3000, 'x') + second), 0).size(), 32u);
  EXPECT_EQ(shown(kCases / "joined_segments.ts", 24).size(), 48u);

  const MediaSpec program{.codec = "mpeg2video", .muxer = "vob"};
  const std::string part = read_file(write("g", program, ramp("yuv420p", 10)));
  EXPECT_EQ(shown(folder_.write("h.mpg", part + part), 24).size(), 20u);
}

TEST_F(VideoInputTest, WhatBeginsBetweenKeyFramesIsReadFromTheNextOn) {
  const MediaSpec spec{.codec = "libx264", .muxer = "mpegts", .options = {{"x264-params", "keyint=8:bframes=0"}}};
  test::write_media(folder_.path() / "a.ts", spec, ramp("yuvj420p", 24, 320, 240));
  const std::string whole = read_file(folder_.path() / "a.ts");
  const fs::path cut = folder_.write("b.ts", whole.substr(188 * (whole.size() / 188 / 4)));
  const test::LogCapture log;
  const std::vector<int> found = shown(cut, 24);
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found.front() % 8, 0);
  EXPECT_EQ(found, numbers(found.front(), 24));
  EXPECT_TRUE(contains(log.text(), "begins between two key frames; its first"));

  const MediaSpec one_key{.codec = "libx264", .muxer = "h264", .options = {{"x264-params", "keyint=250:bframes=0"}}};
  test::write_media(folder_.path() / "c", one_key, ramp("yuvj420p", 5));
  const std::string stream = read_file(folder_.path() / "c");
  const size_t second = stream.find(std::string("\0\0\1\x41", 4));  // a slice that refers to another picture
  ASSERT_NE(second, std::string::npos);
  EXPECT_NE(error_of_reading(folder_.write("d.h264", stream.substr(second - 1))), "no error");
}

TEST_F(VideoInputTest, WarnsOfWhatFfmpegOnlyLogs) {
  const std::string whole = read_file(write("a.mkv", {.codec = "ffv1", .muxer = "matroska"}, ramp("gray", 12)));
  const auto warning = [&](const std::string& bytes, bool quiet) {
    const fs::path path = folder_.write("b.mkv", bytes);
    const test::LogCapture log;
    EXPECT_GT(count_pictures(path, {.quiet = quiet}), 2);
    return log.text();
  };
  EXPECT_EQ(warning(whole, false), "");
  const std::string cut = whole.substr(0, whole.size() - 150);
  EXPECT_TRUE(contains(warning(cut, false), "FFmpeg finds it damaged or cut off (File ended prematurely)"));
  EXPECT_EQ(warning(cut, true), "");
}

TEST_F(VideoInputTest, AllPicturesHaveTheSizeOfTheFirst) {
  const std::string small = h264("mpegts", 24, 6), large = h264("mpegts", 24, 6, 64);
  MediaReader reader(folder_.write("a.ts", small + large));
  for (int i = 0; i < 12; ++i) {
    const std::optional<Picture> picture = reader.next();
    ASSERT_TRUE(picture) << i;
    EXPECT_EQ(picture->width, 32) << i;
    EXPECT_EQ(picture->height, 32) << i;
    EXPECT_EQ(picture->rgb.size(), 32u * 32 * 3) << i;
  }
  EXPECT_FALSE(reader.next());
}

// --- the form of pixels, and rows of two moments -----------------------------------------------------

TEST_F(VideoInputTest, PixelsBecomeSquare) {
  struct Case {
    std::pair<int, int> aspect;
    int rotation;
    std::pair<int, int> size;  // of 64x48 stored pixels
  };
  const std::vector<Case> cases = {{{1, 1}, 0, {64, 48}},   {{2, 1}, 0, {128, 48}},  {{1, 2}, 0, {64, 96}},
                                   {{64, 45}, 0, {91, 48}}, {{2, 1}, 90, {48, 128}}, {{2, 1}, 180, {128, 48}},
                                   {{1, 2}, 270, {96, 64}}, {{20, 1}, 0, {64, 48}},  {{1, 20}, 0, {64, 48}}};
  for (const Case& each : cases) {
    for (const auto& [codec, muxer, format] : {std::tuple{"libx264", "mp4", "yuvj420p"},
                                               {"ffv1", "matroska", "gray"},
                                               {"mjpeg", "image2pipe", "yuvj444p"},
                                               {"png", "image2pipe", "gray"}}) {
      const bool can_turn = std::string(muxer) == "mp4";
      if (each.rotation != 0 && !can_turn) continue;
      const test::LogCapture log;
      const fs::path path =
          write("a", {.codec = codec, .muxer = muxer, .rotation = each.rotation, .pixel_aspect = each.aspect},
                ramp(format, 1, 64, 48));
      const Picture picture = read_picture(path).picture;
      const std::string what = fmt::format("{} {}:{} {}", codec, each.aspect.first, each.aspect.second, each.rotation);
      EXPECT_EQ(std::pair(picture.width, picture.height), each.size) << what;
      const bool is_nonsense = std::max(each.aspect.first, each.aspect.second) == 20;
      EXPECT_EQ(contains(log.text(), "which cannot be right"), is_nonsense) << what << "\n" << log.text();
      fs::remove(path);
    }
  }
}

TEST_F(VideoInputTest, AWideEdgeIsWhereItShouldBe) {
  // A third of the picture is bright. Pixels of 3:2.
  const auto fill = [](int x, int, int component) { return component == 0 ? (x < 16 ? 240 : 0) : 128; };
  std::vector<FramePtr> frames;
  frames.push_back(make_frame("gray", 48, 16, fill));
  const MediaSpec spec{.codec = "ffv1", .muxer = "matroska", .pixel_aspect = {3, 2}};
  const Picture picture = read_picture(write("a.mkv", spec, frames)).picture;
  ASSERT_EQ(picture.width, 72);
  ASSERT_EQ(picture.height, 16);
  EXPECT_GT(picture.rgb.at((8 * 72 + 20) * 3), 220);
  EXPECT_LT(picture.rgb.at((8 * 72 + 27) * 3), 20);
}

TEST_F(VideoInputTest, SaysOnceThatAVideoIsInterlaced) {
  for (const auto& [codec, muxer] :
       {std::pair{"mpeg2video", "mpegts"}, {"libx264", "mp4"}, {"mpeg2video", "matroska"}}) {
    for (const bool interlaced : {false, true}) {
      const fs::path path =
          write("a", {.codec = codec, .muxer = muxer, .top_field_first = interlaced}, ramp("yuv420p", 24, 64, 64));
      const test::LogCapture log;
      EXPECT_EQ(shown(path, 0).size(), 24u) << codec << " " << muxer << " " << interlaced;
      const std::string text = log.text();
      const size_t first = text.find("is interlaced and is read as it is");
      EXPECT_EQ(first != std::string::npos, interlaced) << codec << text;
      if (interlaced) {
        EXPECT_EQ(text.find("is interlaced", first + 1), std::string::npos);
        EXPECT_TRUE(contains(text, "-vf yadif"));
      }
      fs::remove(path);
    }
  }
}

// --- files that claim more than there is, and a wish to stop -----------------------------------------

TEST_F(VideoInputTest, AbsurdTimeStampsAreNotBelieved) {
  EXPECT_EQ(count_pictures(kCases / "gap.mkv", {.fps = 24}), 24);  // 8 frames of 1/8 s; a gap of 10^9 s
  EXPECT_EQ(count_pictures(kCases / "gap.mkv"), 8);
}

TEST_F(VideoInputTest, HoursOfOneFrameCostNothing) {
  // 20 hours between two frames, three times.
  constexpr int64_t kHours = int64_t{20} * 3600 * 24;
  const MediaSpec spec{.codec = "ffv1", .muxer = "matroska", .stamps = {0, kHours, 2 * kHours, 3 * kHours}};
  const fs::path path = write("a.mkv", spec, ramp("gray", 4));
  EXPECT_NEAR(static_cast<double>(count_pictures(path, {.fps = 24})), 3 * kHours + 1, 1);
  MediaReader reader(path, {.fps = 24});
  EXPECT_EQ(reader.skip(2 * kHours + 7), 2 * kHours + 7);
  EXPECT_EQ(reader.next()->rgb.at(0), 6);
  EXPECT_EQ(reader.last()->rgb.at(0), 9);
  EXPECT_FALSE(reader.next());

  // 655.35 s, the longest delay of GIF, each.
  std::vector<int64_t> stamps;
  for (int64_t i = 0; i < 40; ++i) stamps.push_back(65535 * i);
  const MediaSpec gif{.codec = "gif", .muxer = "gif", .fps = 100, .stamps = stamps};
  EXPECT_GT(count_pictures(write("a.gif", gif, ramp("gray", 40)), {.fps = 24}), 600000);
}

TEST_F(VideoInputTest, RefusesEnormousFramesBeforeTheyAreAllocated) {
  std::string mkv = read_file(write("a.mkv", {.codec = "ffv1", .muxer = "matroska"}, ramp("gray", 2, 300, 200)));
  const size_t width = mkv.find(std::string("\xb0\x82\x01\x2c", 4));  // PixelWidth, two bytes: 300
  ASSERT_NE(width, std::string::npos);
  mkv.replace(width + 2, 2, "\x7f\xff");
  EXPECT_TRUE(
      contains(error_of_reading(folder_.write("b.mkv", mkv)), "is of 32767x200 pixels; expected at most 16384"));
  std::string gif = read_file(write("a.gif", {.codec = "gif", .muxer = "gif"}, ramp("gray", 2)));
  gif.replace(6, 4, "\xff\xff\xff\xff");
  EXPECT_NE(error_of_reading(folder_.write("b.gif", gif)), "no error");
}

TEST_F(VideoInputTest, ReadingStopsWhenItIsAskedTo) {
  struct Stop {};
  const fs::path path = folder_.write("a.mp4", h264("mp4", 24, 30));
  int64_t calls = 0;
  count_pictures(path, {.fps = 24, .poll = [&] { ++calls; }});
  EXPECT_GT(calls, 30) << "once a frame at least";
  for (const int64_t stop_at : {int64_t{1}, int64_t{2}, int64_t{3}, calls / 2, calls}) {
    int64_t called = 0;
    const auto poll = [&] {
      if (++called >= stop_at) throw Stop();
    };
    EXPECT_THROW(count_pictures(path, {.fps = 24, .poll = poll}), Stop) << stop_at;
    called = 0;
    EXPECT_THROW(read_picture(path, Position::kLast, poll), Stop) << stop_at;
    EXPECT_EQ(called, stop_at);
  }
}

}  // namespace
}  // namespace opensora::media
