// Inputs are written by FFmpeg's encoders (support/write_media.h); damaged ones are cut from those.
#include "media/media_reader.h"

#include <gtest/gtest.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "media/png.h"
#include "media/video_writer.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/file_error.h"
#include "support/log_capture.h"
#include "support/temporary_folder.h"
#include "support/write_media.h"

extern "C" {
#include <libavutil/frame.h>
}

namespace opensora::media {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::Fill;
using test::make_frame;
using test::MediaSpec;
using Rgb = std::array<int, 3>;

Rgb at(const Picture& picture, int x, int y) {
  const uint8_t* pixel = &picture.rgb.at((static_cast<size_t>(y) * picture.width + x) * 3);
  return {pixel[0], pixel[1], pixel[2]};
}

testing::AssertionResult is_near(const Rgb& found, const Rgb& expected, int tolerance) {
  for (int i = 0; i < 3; ++i) {
    if (std::abs(found[i] - expected[i]) > tolerance) {
      return testing::AssertionFailure() << fmt::format("{},{},{} instead of {},{},{}", found[0], found[1], found[2],
                                                        expected[0], expected[1], expected[2]);
    }
  }
  return testing::AssertionSuccess();
}

Fill solid(std::vector<int> components) {
  return [components = std::move(components)](int, int, int component) { return components.at(component); };
}

class MediaReaderTest : public testing::Test {
 protected:
  fs::path write(const std::string& name, const MediaSpec& spec, std::vector<FramePtr> frames) const {
    test::write_media(folder_.path() / name, spec, frames);
    return folder_.path() / name;
  }
  fs::path write(const std::string& name, const MediaSpec& spec, FramePtr frame) const {
    std::vector<FramePtr> frames;
    frames.push_back(std::move(frame));
    return write(name, spec, std::move(frames));
  }
  // Grey frames; frame i is 4 * i + 20 in all channels.
  fs::path write_video(const std::string& name, int fps, int count, int width = 32, int height = 32) const {
    VideoWriter writer(folder_.path() / name, {.width = width, .height = height, .fps = fps, .crf = 1}, false);
    for (int i = 0; i < count; ++i) {
      writer.write(std::vector<uint8_t>(static_cast<size_t>(width) * height * 3, 4 * i + 20).data());
    }
    writer.finish();
    return folder_.path() / name;
  }
  fs::path cut(const fs::path& file, double share) const {
    const std::string bytes = test::read_file(file);
    const auto size = static_cast<size_t>(share * static_cast<double>(bytes.size()));
    return folder_.write("cut-" + file.filename().string(), bytes.substr(0, size));
  }

  test::TemporaryFolder folder_;
};

// The message of the error that reading all of the file must end with; it is one line and names the file.
std::string error_of(const fs::path& path) {
  return test::input_error(path, [&] {
    read_picture(path);
    count_pictures(path);
  });
}

std::vector<int> levels(const fs::path& path, double fps) {
  MediaReader reader(path, {.fps = fps});
  std::vector<int> found;
  while (const std::optional<Picture> picture = reader.next()) {
    found.push_back(static_cast<int>(std::lround((at(*picture, 16, 16)[1] - 20) / 4.0)));
  }
  return found;
}

// --- images ---------------------------------------------------------------------------------------

TEST_F(MediaReaderTest, ReadsRgbExactly) {
  const Fill fill = [](int x, int y, int component) { return 7 * x + 13 * y + 80 * component; };
  for (const auto& [codec, format] :
       {std::pair{"png", "rgb24"}, {"bmp", "bgr24"}, {"tiff", "rgb24"}, {"ppm", "rgb24"}, {"png", "rgba"}}) {
    const bool opaque_alpha = std::string(format) == "rgba";
    const Fill with_alpha = [&](int x, int y, int component) { return component == 3 ? 255 : fill(x, y, component); };
    const fs::path path =
        write(std::string("a.") + codec, {.codec = codec}, make_frame(format, 5, 3, opaque_alpha ? with_alpha : fill));
    const auto [picture, is_image] = read_picture(path);
    EXPECT_TRUE(is_image);
    ASSERT_EQ(picture.width, 5);
    ASSERT_EQ(picture.height, 3);
    ASSERT_EQ(picture.rgb.size(), 45u);
    for (int y = 0; y < 3; ++y) {
      for (int x = 0; x < 5; ++x) {
        EXPECT_EQ(at(picture, x, y), (Rgb{fill(x, y, 0), fill(x, y, 1), fill(x, y, 2)})) << codec << " " << format;
      }
    }
  }
}

TEST_F(MediaReaderTest, Reads16BitsGreyAndPalettes) {
  const auto read = [&](const MediaSpec& spec, FramePtr frame) {
    return read_picture(write("a." + spec.codec, spec, std::move(frame))).picture;
  };
  for (const int level : {0, 1, 100, 128, 254, 255}) {
    const Rgb expected{level, level, level};
    EXPECT_TRUE(is_near(at(read({.codec = "png"}, make_frame("gray", 4, 4, solid({level}))), 1, 1), expected, 0));
    EXPECT_TRUE(
        is_near(at(read({.codec = "png"}, make_frame("gray16be", 4, 4, solid({level * 257}))), 1, 1), expected, 1));
    EXPECT_TRUE(is_near(at(read({.codec = "tiff"}, make_frame("gray", 4, 4, solid({level}))), 1, 1), expected, 0));
  }
  const Fill deep = solid({200 * 257, 100 * 257, 3 * 257});
  EXPECT_TRUE(is_near(at(read({.codec = "png"}, make_frame("rgb48be", 4, 4, deep)), 3, 3), {200, 100, 3}, 1));

  const std::vector<uint32_t> palette = {0xffff0000, 0xff00ff00, 0xff102030, 0x00ffffff};  // the last: transparent
  const Fill index = [](int x, int, int) { return x; };
  const Picture indexed = read({.codec = "png"}, make_frame("pal8", 4, 2, index, palette));
  EXPECT_EQ(at(indexed, 0, 1), (Rgb{255, 0, 0}));
  EXPECT_EQ(at(indexed, 1, 1), (Rgb{0, 255, 0}));
  EXPECT_EQ(at(indexed, 2, 0), (Rgb{0x10, 0x20, 0x30}));
  EXPECT_EQ(at(indexed, 3, 0), (Rgb{0, 0, 0}));
}

TEST_F(MediaReaderTest, CompositesAlphaOverBlack) {
  const Fill fill = [](int x, int, int component) { return component == 3 ? 85 * x : 240 - 60 * component; };
  const test::LogCapture log;
  const Picture picture = read_picture(write("a.png", {.codec = "png"}, make_frame("rgba", 4, 1, fill))).picture;
  EXPECT_TRUE(contains(log.text(), "a.png: is transparent in places and is put over black"));
  EXPECT_EQ(at(picture, 0, 0), (Rgb{0, 0, 0}));
  EXPECT_EQ(at(picture, 1, 0), (Rgb{80, 60, 40}));
  EXPECT_EQ(at(picture, 2, 0), (Rgb{160, 120, 80}));
  EXPECT_EQ(at(picture, 3, 0), (Rgb{240, 180, 120}));
  const Fill deep = [](int, int, int component) { return component == 3 ? 32768 : 200 * 257; };
  EXPECT_TRUE(
      is_near(at(read_picture(write("b.png", {.codec = "png"}, make_frame("rgba64be", 2, 2, deep))).picture, 0, 0),
              {100, 100, 100}, 1));
  const Fill grey = [](int, int, int component) { return component == 1 ? 51 : 200; };
  EXPECT_TRUE(is_near(at(read_picture(write("c.png", {.codec = "png"}, make_frame("ya8", 2, 2, grey))).picture, 0, 0),
                      {40, 40, 40}, 1));
}

TEST_F(MediaReaderTest, ReadsJpegInFullRangeBt601) {
  // Y 76, Cb 85, Cr 255 is JFIF's pure red.
  const fs::path path = write("a.jpg", {.codec = "mjpeg"}, make_frame("yuvj420p", 32, 32, solid({76, 85, 255})));
  EXPECT_TRUE(is_near(at(read_picture(path).picture, 9, 9), {254, 0, 0}, 3));
  const fs::path grey = write("b.jpg", {.codec = "mjpeg"}, make_frame("yuvj444p", 16, 16, solid({255, 128, 128})));
  EXPECT_TRUE(is_near(at(read_picture(grey).picture, 9, 9), {255, 255, 255}, 1));
}

TEST_F(MediaReaderTest, AppliesExifOrientation) {
  // Upright it is bright in the top left quarter of 48x32, and reddish in the top right one.
  const auto stored_at = [](int orientation, int x, int y, int width, int height) {
    // Where the stored pixel (x, y) of a width x height picture goes when shown, by EXIF 2.3's table.
    switch (orientation) {
      case 2:
        return std::pair{width - 1 - x, y};
      case 3:
        return std::pair{width - 1 - x, height - 1 - y};
      case 4:
        return std::pair{x, height - 1 - y};
      case 5:
        return std::pair{y, x};
      case 6:
        return std::pair{height - 1 - y, x};
      case 7:
        return std::pair{height - 1 - y, width - 1 - x};
      case 8:
        return std::pair{y, width - 1 - x};
      default:
        return std::pair{x, y};
    }
  };
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const bool swapped = orientation >= 5;
    const int width = swapped ? 32 : 48, height = swapped ? 48 : 32;
    const Fill fill = [&](int x, int y, int component) {
      const auto [shown_x, shown_y] = stored_at(orientation, x, y, width, height);
      const bool top = shown_y < 16, left = shown_x < 24;
      return component == 0 ? (top && left ? 230 : 60) : component == 2 && top && !left ? 200 : 128;
    };
    const fs::path plain = write("a.jpg", {.codec = "mjpeg"}, make_frame("yuvj444p", width, height, fill));
    const fs::path path = folder_.write("b.jpg", test::with_exif_orientation(test::read_file(plain), orientation));
    const Picture picture = read_picture(path).picture;
    ASSERT_EQ(picture.width, 48) << orientation;
    ASSERT_EQ(picture.height, 32) << orientation;
    EXPECT_TRUE(is_near(at(picture, 8, 6), {230, 230, 230}, 6)) << orientation;
    EXPECT_TRUE(is_near(at(picture, 40, 6), {161, 9, 60}, 8)) << orientation;
    EXPECT_TRUE(is_near(at(picture, 8, 26), {60, 60, 60}, 6)) << orientation;
  }
}

TEST_F(MediaReaderTest, ReadsWebP) {
  if (!test::has_encoder("libwebp")) GTEST_SKIP() << "this FFmpeg cannot write WebP";
  const MediaSpec lossless{.codec = "libwebp", .options = {{"lossless", "1"}}};
  const Fill fill = [](int x, int, int component) { return component == 3 ? 255 * (x > 3) : 40 * component + 100; };
  const Picture picture = read_picture(write("a.webp", lossless, make_frame("bgra", 8, 8, fill))).picture;
  EXPECT_EQ(at(picture, 6, 6), (Rgb{100, 140, 180}));
  EXPECT_EQ(at(picture, 2, 2), (Rgb{0, 0, 0}));

  if (!test::has_encoder("libwebp_anim")) GTEST_SKIP() << "this FFmpeg cannot write animated WebP";
  std::vector<FramePtr> frames;
  for (int i = 0; i < 3; ++i) frames.push_back(make_frame("bgra", 16, 16, solid({80 * i, 9, 9, 255})));
  EXPECT_TRUE(contains(error_of(write("b.webp", {.codec = "libwebp_anim", .muxer = "webp"}, std::move(frames))),
                       "is an animated WebP"));
}

TEST_F(MediaReaderTest, TakesTheFirstFrameOfAnAnimatedImage) {
  for (const auto& [codec, format] : {std::pair{"gif", "rgb8"}, {"apng", "rgb24"}}) {
    std::vector<FramePtr> frames;
    for (int i = 0; i < 4; ++i) frames.push_back(make_frame(format, 16, 16, solid({i, i, i})));
    const fs::path path =
        write(std::string("a.") + codec, {.codec = codec, .muxer = codec, .fps = 10}, std::move(frames));
    const test::LogCapture log;
    const auto [picture, is_image] = read_picture(path, Position::kLast);
    EXPECT_TRUE(is_image);
    EXPECT_EQ(at(picture, 4, 4), (Rgb{0, 0, 0}));
    EXPECT_TRUE(contains(log.text(), "is animated; its first frame is taken"));
    EXPECT_EQ(count_pictures(path), 4);
  }
}

TEST_F(MediaReaderTest, ReadsFileUrls) {
  const std::vector<uint8_t> pixel = {1, 2, 3};
  write_png(folder_.path() / "a b.png", pixel.data(), 1, 1, false);
  for (const std::string& start : {"file://", "file://localhost", "file:"}) {
    const Picture picture = read_picture(start + folder_.path().string() + "/a%20b.png").picture;
    EXPECT_EQ(at(picture, 0, 0), (Rgb{1, 2, 3})) << start;
  }
  EXPECT_TRUE(contains(error_of(folder_.write("page.png", "<!DOCTYPE html><html></html>")),
                       "is an HTML page; expected an image or a video; download"));
  EXPECT_TRUE(contains(error_of(folder_.write("a.jpg", "%PDF-1.5\n")), "is a PDF document; expected"));
}

TEST_F(MediaReaderTest, TakesAnyNameAndTheSmallestPicture) {
  const std::vector<uint8_t> pixel = {1, 2, 3};
  for (const char* name : {"http:a%03d b.png", "a.mp4", "none", "x.txt"}) {
    const fs::path path = folder_.path() / name;
    write_png(path, pixel.data(), 1, 1, false);
    EXPECT_EQ(at(read_picture(path).picture, 0, 0), (Rgb{1, 2, 3})) << name;
  }
}

// --- videos ---------------------------------------------------------------------------------------

TEST_F(MediaReaderTest, ReadsEveryFrameOfAVideo) {
  const fs::path path = write_video("a.mp4", 24, 40);
  std::vector<int> expected;
  for (int i = 0; i < 40; ++i) expected.push_back(i);
  EXPECT_EQ(levels(path, 0), expected);
  EXPECT_EQ(levels(path, 24), expected);
  EXPECT_EQ(count_pictures(path), 40);
  MediaReader reader(path);
  EXPECT_FALSE(reader.is_image());
  EXPECT_EQ(reader.fps(), 24);
  EXPECT_TRUE(reader.skip());
  EXPECT_TRUE(is_near(at(*reader.next(), 3, 3), {24, 24, 24}, 2));
  EXPECT_FALSE(read_picture(path).is_image);
  EXPECT_TRUE(is_near(at(read_picture(path).picture, 3, 3), {20, 20, 20}, 2));
  EXPECT_TRUE(is_near(at(read_picture(path, Position::kLast).picture, 3, 3), {176, 176, 176}, 2));
}

TEST_F(MediaReaderTest, ResamplesInTimeByTheNearestFrame) {
  const test::LogCapture log;
  EXPECT_EQ(levels(write_video("48.mp4", 48, 16), 24), (std::vector{0, 2, 4, 6, 8, 10, 12, 14}));
  EXPECT_TRUE(contains(log.text(), "has 48 frames a second; read as 24"));
  EXPECT_EQ(levels(write_video("12.mp4", 12, 4), 24), (std::vector{0, 0, 1, 1, 2, 2, 3, 3}));
  EXPECT_EQ(levels(write_video("30.mp4", 30, 10), 24), (std::vector{0, 1, 3, 4, 5, 6, 8, 9}));
  EXPECT_EQ(count_pictures(folder_.path() / "30.mp4", {.fps = 24}), 8);
  EXPECT_EQ(MediaReader(folder_.path() / "30.mp4", {.fps = 24}).fps(), 24);
}

TEST_F(MediaReaderTest, ConvertsColoursByTheirTags) {
  struct Tagged {
    const char *space, *range;
    std::vector<int> yuv;  // of pure red
  };
  for (const Tagged& tagged : {Tagged{"bt709", "tv", {63, 102, 240}}, Tagged{"bt709", "pc", {54, 99, 255}},
                               Tagged{"smpte170m", "tv", {81, 90, 240}}, Tagged{"bt2020nc", "tv", {74, 97, 240}}}) {
    const MediaSpec spec{
        .codec = "ffv1", .muxer = "matroska", .color_space = tagged.space, .color_range = tagged.range};
    const fs::path path = write("a.mkv", spec, make_frame("yuv420p", 32, 32, solid(tagged.yuv)));
    EXPECT_TRUE(is_near(at(read_picture(path).picture, 9, 9), {255, 0, 0}, 3)) << tagged.space << " " << tagged.range;
    fs::remove(path);
  }
}

TEST_F(MediaReaderTest, Reads10BitsAndSaysThatHdrIsNotToneMapped) {
  MediaSpec spec{.codec = "ffv1", .muxer = "matroska", .color_space = "bt709", .color_range = "tv"};
  const fs::path sdr = write("a.mkv", spec, make_frame("yuv420p10le", 32, 32, solid({4 * 126, 512, 512})));
  {
    const test::LogCapture log;
    EXPECT_TRUE(is_near(at(read_picture(sdr).picture, 9, 9), {128, 128, 128}, 1));
    EXPECT_EQ(log.text().find("HDR"), std::string::npos) << log.text();
  }
  spec.color_space = "bt2020nc";
  spec.color_transfer = "smpte2084";
  const fs::path hdr = write("b.mkv", spec, make_frame("yuv420p10le", 32, 32, solid({4 * 126, 512, 512})));
  const test::LogCapture log;
  EXPECT_TRUE(is_near(at(read_picture(hdr).picture, 9, 9), {128, 128, 128}, 1));
  EXPECT_TRUE(contains(log.text(), "is HDR (smpte2084)"));
}

TEST_F(MediaReaderTest, AppliesTheDisplayMatrix) {
  for (const int degrees : {90, 180, 270}) {
    // Bright in the stored picture's top left corner.
    const Fill fill = [](int x, int y, int component) { return component == 0 && x < 24 && y < 16 ? 220 : 128; };
    const MediaSpec spec{.codec = "libx264", .muxer = "mp4", .rotation = degrees, .options = {{"crf", "4"}}};
    const Picture picture = read_picture(write("a.mp4", spec, make_frame("yuv420p", 48, 32, fill))).picture;
    const bool swapped = degrees != 180;
    ASSERT_EQ(picture.width, swapped ? 32 : 48) << degrees;
    ASSERT_EQ(picture.height, swapped ? 48 : 32) << degrees;
    const bool right = degrees != 270, bottom = degrees != 90;
    EXPECT_GT(at(picture, right ? picture.width - 6 : 5, bottom ? picture.height - 6 : 5)[1], 200) << degrees;
    EXPECT_LT(at(picture, right ? 5 : picture.width - 6, bottom ? picture.height - 6 : 5)[1], 150) << degrees;
    EXPECT_LT(at(picture, right ? picture.width - 6 : 5, bottom ? 5 : picture.height - 6)[1], 150) << degrees;
    fs::remove(folder_.path() / "a.mp4");
  }
}

// --- what cannot be read --------------------------------------------------------------------------

TEST_F(MediaReaderTest, RefusesWhatIsNoFile) {
  EXPECT_TRUE(contains(error_of(folder_.path() / "none.png"), "No such file"));
  EXPECT_TRUE(contains(error_of(folder_.path()), "is a folder"));
  EXPECT_TRUE(contains(error_of("/dev/null"), "is not a regular file"));
  for (const char* url : {"http://example.org/a.png", "https://example.org/a.mp4", "s3://bucket/a.png", "rtsp://a/b"}) {
    try {
      MediaReader reader(url);
      FAIL() << url;
    } catch (const InputMediaError& error) {
      EXPECT_TRUE(contains(error.what(), "is a URL; only local files are read")) << url;
    }
  }
}

TEST_F(MediaReaderTest, RefusesWhatIsNoPicture) {
  EXPECT_TRUE(contains(error_of(folder_.write("empty.mp4", "")), "the file is empty"));
  EXPECT_TRUE(contains(error_of(folder_.write("text.png", "This is a text, and not a picture.\n")),
                       "is a text file; expected"));
  EXPECT_TRUE(contains(error_of(folder_.write("nulls.jpg", std::string(5000, '\0'))), "cannot be read"));
  const std::string wav =
      std::string("RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0", 36) +
      std::string("data\0\x08\0\0", 8) + std::string(2048, '\1');
  EXPECT_TRUE(
      contains(error_of(folder_.write("sound.mp4", wav)), "is a sound file (WAV); expected an image or a video"));
  // A list of other files, of which one is not local.
  const fs::path list = folder_.write("list.mp4", "ffconcat version 1.0\nfile 'http://127.0.0.1:1/a.mp4'\n");
  EXPECT_NE(error_of(list), "no error");
}

TEST_F(MediaReaderTest, RefusesTruncatedImagesAtAnyPlace) {
  const Fill fill = [](int x, int y, int component) { return (x * 37 + y * 91 + component * 50 + x * y * 7) & 255; };
  for (const auto& [codec, format] :
       {std::pair{"png", "rgb24"}, {"mjpeg", "yuvj420p"}, {"bmp", "bgr24"}, {"tiff", "rgb24"}, {"libwebp", "bgra"}}) {
    if (!test::has_encoder(codec)) continue;
    const fs::path path = write(std::string("a.") + codec, {.codec = codec}, make_frame(format, 64, 64, fill));
    EXPECT_EQ(error_of(path), "no error") << codec;
    for (const double share : {0.003, 0.05, 0.3, 0.5, 0.9, 0.99}) {
      EXPECT_NE(error_of(cut(path, share)), "no error") << codec << " " << share;
    }
  }
}

TEST_F(MediaReaderTest, RefusesAJpegWithoutItsEnd) {
  const fs::path path = write("a.jpg", {.codec = "mjpeg"}, make_frame("yuvj420p", 64, 64, solid({90, 100, 110})));
  const std::string bytes = test::read_file(path);
  EXPECT_EQ(error_of(folder_.write("trailer.jpg", bytes + "a camera's own data")), "no error");
  EXPECT_TRUE(contains(error_of(folder_.write("cut.jpg", bytes.substr(0, bytes.size() - 2))), "damaged or truncated"));
}

TEST_F(MediaReaderTest, RefusesAnUnknownCodec) {
  std::string bytes = test::read_file(write_video("a.mp4", 24, 3));
  bytes.replace(bytes.find("avc1", bytes.find("stsd")), 4, "zzzz");
  EXPECT_TRUE(contains(error_of(folder_.write("b.mp4", bytes)), "has no decoder for its codec"));
}

TEST_F(MediaReaderTest, ReadsH264Of10Bits) {
  const Fill grey = solid({4 * 126, 512, 512});
  const fs::path path = write("a.mp4", {.codec = "libx264", .muxer = "mp4"}, make_frame("yuv420p10le", 64, 32, grey));
  EXPECT_TRUE(is_near(at(read_picture(path).picture, 9, 9), {128, 128, 128}, 2));
}

TEST_F(MediaReaderTest, RefusesADamagedPng) {
  const Fill fill = [](int x, int y, int component) { return (x * 37 + y * 91 + component * 50) & 255; };
  const fs::path path = write("a.png", {.codec = "png"}, make_frame("rgb24", 64, 64, fill));
  std::string bytes = test::read_file(path);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  EXPECT_TRUE(contains(error_of(folder_.write("b.png", bytes)), "the image cannot be decoded (png)"));
}

TEST_F(MediaReaderTest, RefusesTruncatedVideos) {
  const fs::path path = write_video("a.mp4", 24, 30, 64, 64);
  for (const double share : {0.02, 0.3, 0.6, 0.8, 0.99}) {
    EXPECT_NE(error_of(cut(path, share)), "no error") << share;
  }
}

TEST_F(MediaReaderTest, RefusesAVideoWithoutFrames) {
  // Only the header of a video: its frames are cut off at the first cluster.
  const MediaSpec spec{.codec = "ffv1", .muxer = "matroska"};
  const std::string bytes = test::read_file(write("a.mkv", spec, make_frame("yuv420p", 32, 32, solid({90, 128, 128}))));
  const size_t cluster = bytes.find("\x1f\x43\xb6\x75");
  ASSERT_NE(cluster, std::string::npos);
  EXPECT_TRUE(contains(error_of(folder_.write("b.mkv", bytes.substr(0, cluster))), "cut off before its first frame"));
  EXPECT_TRUE(contains(error_of(folder_.write("c.mkv", bytes.substr(0, cluster + 4))), "holds no frame"));
}

TEST_F(MediaReaderTest, RefusesEnormousPicturesBeforeTheyAreAllocated) {
  const std::string wide = error_of(write("a.png", {.codec = "png"}, make_frame("gray", 20000, 20, solid({9}))));
  EXPECT_TRUE(contains(wide, "is of 20000x20 pixels; expected at most 16384 each way"));
  for (const auto& [codec, format] : {std::pair{"bmp", "bgr24"}, {"tiff", "rgb24"}}) {
    const fs::path path =
        write(std::string("a.") + codec, {.codec = codec}, make_frame(format, 20000, 20, solid({9, 9, 9})));
    EXPECT_TRUE(contains(error_of(path), "expected at most 16384 each way")) << codec;
  }
  // A PNG of a hundred bytes that says it has 60000x60000 pixels.
  std::string bytes = test::read_file(write("b.png", {.codec = "png"}, make_frame("rgb24", 2, 2, solid({1, 2, 3}))));
  bytes.replace(16, 8, std::string("\0\0\xea\x60\0\0\xea\x60", 8));
  EXPECT_NE(error_of(folder_.write("c.png", bytes)), "no error");
}

}  // namespace
}  // namespace opensora::media
