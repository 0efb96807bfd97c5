#include "run/resize.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "media/media_reader.h"
#include "media/png.h"
#include "media/video_writer.h"
#include "opensora/error.h"
#include "run/references.h"
#include "support/contains.h"
#include "support/log_capture.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora::run {
namespace {

namespace fs = std::filesystem;
using test::Case;
using test::close;
using test::contains;

fs::path reference_picture_path(const std::string& name) { return test::reference_dir() / "cases" / name; }

at::Tensor numbers(at::IntArrayRef shape) {
  return at::arange(c10::multiply_integers(shape), at::kLong).mul_(37).remainder_(251).view(shape).to(at::kByte);
}

template <typename Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const InputMediaError& error) {
    return error.what();
  }
  return "no error";
}

// --- images ---------------------------------------------------------------------------------------

TEST(ResizeImage, EqualsPillowExactly) {
  const Case reference("resize_crop");
  for (const auto& [height, width] : {std::pair{256, 448}, {320, 320}, {48, 112}, {64, 96}, {96, 64}}) {
    const at::Tensor resized = resize_crop_image(reference.raw("in"), height, width);
    const at::Tensor expected = reference.raw(std::to_string(height) + "x" + std::to_string(width));
    EXPECT_TRUE(at::equal(resized, expected)) << height << "x" << width;
  }
}

TEST(ResizeImage, TheReferencePictureIsReadExactly) {
  media::Picture picture = media::read_picture(reference_picture_path("reference.png")).picture;
  const at::Tensor rgb = at::from_blob(picture.rgb.data(), {picture.height, picture.width, 3}, at::kByte);
  EXPECT_TRUE(at::equal(rgb, Case("resize_crop").raw("in")));
}

TEST(ResizeImage, KeepsAPictureOfTheRightSize) {
  const at::Tensor picture = numbers({24, 40, 3});
  EXPECT_TRUE(at::equal(resize_crop_image(picture, 24, 40), picture));
}

// A part of the resized picture is the same as if all of it were computed, however much it shrinks or grows.
TEST(ResizeImage, ComputesOnlyWhatIsKept) {
  const at::Tensor picture = numbers({61, 83, 3});
  for (const auto& [height, width] : {std::pair{20, 30}, {7, 90}, {130, 9}, {61, 40}, {30, 83}}) {
    const at::Tensor whole = resize_bicubic(picture, height, width, {0, height}, {0, width});
    const at::Tensor part = resize_bicubic(picture, height, width, {2, height - 4}, {3, width - 5});
    EXPECT_TRUE(at::equal(part, whole.narrow(0, 2, height - 4).narrow(1, 3, width - 5))) << height << "x" << width;
  }
}

// Of a large picture only the rows are kept, as wide as the result; never the whole in another form.
TEST(ResizeImage, TakesLittleMemory) {
  struct Counter : c10::MemoryReportingInfoBase {
    int64_t allocated = 0;
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
      allocated += std::max<int64_t>(size, 0);
    }
    bool memoryProfilingEnabled() const override { return true; }
  };
  const at::Tensor picture = numbers({600, 400, 3});
  const auto counter = std::make_shared<Counter>();
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, counter);
    resize_crop_image(picture, 30, 20);
  }
  EXPECT_GT(counter->allocated, 0);
  EXPECT_LT(counter->allocated, picture.numel() / 4);  // bytes
}

// Only a crop is left where one edge fits: offsets are rounded, halves to even.
TEST(ResizeImage, RoundsTheCropOffset) {
  const at::Tensor picture = numbers({16, 23, 3});
  EXPECT_TRUE(at::equal(resize_crop_image(picture, 16, 16), picture.narrow(1, 4, 16)));  // 3.5 -> 4
  EXPECT_TRUE(at::equal(resize_crop_image(picture, 16, 18), picture.narrow(1, 2, 18)));  // 2.5 -> 2
  const at::Tensor tall = numbers({23, 16, 3});
  EXPECT_TRUE(at::equal(resize_crop_image(tall, 16, 16), tall.narrow(0, 4, 16)));
}

TEST(ResizeImage, TakesExtremeShapes) {
  const at::Tensor pixel = at::full({1, 1, 3}, 77, at::kByte);
  EXPECT_TRUE(at::equal(resize_crop_image(pixel, 32, 48), at::full({32, 48, 3}, 77, at::kByte)));
  const at::Tensor strip = at::full({20, 16000, 3}, 99, at::kByte);
  EXPECT_TRUE(at::equal(resize_crop_image(strip, 64, 96), at::full({64, 96, 3}, 99, at::kByte)));
  const at::Tensor line = at::zeros({1, 16384, 3}, at::kByte);
  EXPECT_TRUE(contains(error_of([&] { resize_crop_image(line, 768, 1024); }),
                       "a picture of 16384x1 pixels cannot fill 1024x768"));
}

// --- videos ---------------------------------------------------------------------------------------

TEST(ResizeVideo, TruncatesTheCropOffset) {
  const at::Tensor frames = numbers({2, 16, 23, 3});
  const at::Tensor resized = resize_crop_video(frames, 16, 16);
  EXPECT_TRUE(at::equal(resized, frames.narrow(2, 3, 16).to(at::kFloat)));  // 3.5 -> 3
}

TEST(ResizeVideo, IsBilinearWithoutAntialiasAndNotRounded) {
  // 8 columns to 2: sample points at 1.5 and 5.5, each between two neighbours; an antialiased one would mix in more.
  at::Tensor frame = at::zeros({1, 8, 8, 3}, at::kByte);
  frame.select(2, 1).fill_(101);
  frame.select(2, 6).fill_(200);
  frame.select(2, 4).fill_(255);
  const at::Tensor resized = resize_crop_video(frame, 2, 2);
  EXPECT_EQ(resized.scalar_type(), at::kFloat);
  EXPECT_FLOAT_EQ(resized[0][0][0][0].item<float>(), 50.5f);
  EXPECT_FLOAT_EQ(resized[0][1][1][2].item<float>(), 100.0f);
}

// --- what autoencoders are given --------------------------------------------------------------------

TEST(ModelRange, PutsChannelsFirstAndScales) {
  const at::Tensor frames = numbers({2, 4, 5, 3});
  const at::Tensor ready = to_model_range(frames);
  EXPECT_EQ(ready.sizes(), (at::IntArrayRef{1, 3, 2, 4, 5}));
  EXPECT_FLOAT_EQ(ready[0][2][1][3][4].item<float>(), frames[1][3][4][2].item<float>() / 127.5f - 1);
  EXPECT_EQ(to_model_range(at::full({1, 1, 3}, 255, at::kByte)).min().item<float>(), 1.0f);
  EXPECT_EQ(to_model_range(at::zeros({1, 1, 3}, at::kByte)).max().item<float>(), -1.0f);
}

class ReferenceMediaTest : public testing::Test {
 protected:
  // Grey frames; frame i is 4 * i + 20.
  fs::path write_video(const std::string& name, int fps, int count) const {
    media::VideoWriter writer(folder_.path() / name, {.width = 64, .height = 48, .fps = fps, .crf = 1}, false);
    for (int i = 0; i < count; ++i) {
      writer.write(std::vector<uint8_t>(size_t{64} * 48 * 3, static_cast<uint8_t>(4 * i + 20)).data());
    }
    writer.finish();
    return folder_.path() / name;
  }
  static double level(const at::Tensor& video, int64_t frame) {
    return ((video.select(2, frame).mean().item<double>() + 1) * 127.5 - 20) / 4;
  }

  test::TemporaryFolder folder_;
};

TEST_F(ReferenceMediaTest, AnImageIsPreparedAsTheReference) {
  const at::Tensor ready = read_reference_picture(reference_picture_path("reference.png"), 64, 96);
  const at::Tensor expected = to_model_range(Case("resize_crop").raw("64x96"));
  EXPECT_TRUE(close(ready, expected, /*atol=*/2.01 / 255, /*rtol=*/0));
}

TEST_F(ReferenceMediaTest, TakesTheFirstOrTheLastFrames) {
  const fs::path path = write_video("a.mp4", 24, 40);
  const at::Tensor head = read_reference_video(path, {.height = 32, .width = 32, .fps = 24, .frames = 33});
  EXPECT_EQ(head.sizes(), (at::IntArrayRef{1, 3, 33, 32, 32}));
  EXPECT_NEAR(level(head, 0), 0, 0.3);
  EXPECT_NEAR(level(head, 32), 32, 0.3);
  const at::Tensor tail = read_reference_video(
      path, {.height = 32, .width = 32, .fps = 24, .frames = 33, .position = media::Position::kLast});
  EXPECT_EQ(tail.size(2), 33);
  EXPECT_NEAR(level(tail, 0), 7, 0.3);
  EXPECT_NEAR(level(tail, 32), 39, 0.3);
  EXPECT_EQ(read_reference_video(path, {.height = 16, .width = 32}).size(2), 40);
  EXPECT_NEAR(level(read_reference_picture(path, 32, 32), 0), 0, 0.3);
  EXPECT_NEAR(level(read_reference_picture(path, 32, 32, media::Position::kLast), 0), 39, 0.3);
}

TEST_F(ReferenceMediaTest, CountsFramesAfterResampling) {
  const fs::path path = write_video("a.mp4", 48, 40);
  for (const auto position : {media::Position::kFirst, media::Position::kLast}) {
    const std::string message = error_of([&] {
      read_reference_video(path, {.height = 32, .width = 32, .fps = 24, .frames = 33, .position = position});
    });
    EXPECT_EQ(message, path.string() +
                           ": has 20 frames at 24 frames a second (40 in the file); at least 33 are "
                           "needed: give a longer video");
    const at::Tensor video =
        read_reference_video(path, {.height = 32, .width = 32, .fps = 24, .frames = 20, .position = position});
    EXPECT_NEAR(level(video, 19), 38, 0.3);
  }
}

TEST_F(ReferenceMediaTest, AnImageIsOneFrameAndErrorsNameTheFile) {
  const fs::path path = folder_.path() / "line.png";
  media::write_png(path, std::vector<uint8_t>(size_t{16384} * 3).data(), 16384, 1, false);
  EXPECT_TRUE(contains(error_of([&] { read_reference_picture(path, 768, 1024); }), path.string() + ": a picture of"));
  const fs::path image = reference_picture_path("reference.png");
  EXPECT_EQ(read_reference_video(image, {.height = 32, .width = 32}).size(2), 1);
  EXPECT_TRUE(contains(error_of([&] { read_reference_video(image, {.height = 32, .width = 32, .frames = 33}); }),
                       "is a picture, and a video of at least 33 frames is needed; give a picture with `image`"));
}

TEST_F(ReferenceMediaTest, WidePixelsAreMadeSquareBeforeResizing) {
  // 720x576 pixels of 64:45, shown as 16:9; in the middle a white circle that fills most of the height.
  const fs::path path = fs::path(OPENSORA_TEST_DATA) / "cases" / "anamorphic_pal.mp4";
  const at::Tensor video = read_reference_video(path, {.height = 64, .width = 128, .fps = 24, .frames = 1});
  const at::Tensor white = video[0].mean(0)[0].gt(0);  // [64, 128]
  EXPECT_NEAR(white.any(0).sum().item<double>(), 62, 1) << "columns";
  EXPECT_NEAR(white.any(1).sum().item<double>(), 62, 1) << "rows";
}

TEST_F(ReferenceMediaTest, TheLastFramesAreThoseOfThePauseBeforeThem) {
  // 5 frames, of which the last is shown until the 25th picture, and 75 more.
  const fs::path path = fs::path(OPENSORA_TEST_DATA) / "cases" / "pause_24fps.mp4";
  const at::Tensor head = read_reference_video(path, {.height = 32, .width = 32, .fps = 24, .frames = 33});
  EXPECT_FALSE(at::equal(head.select(2, 3), head.select(2, 4)));
  for (int64_t t = 5; t < 25; ++t) EXPECT_TRUE(at::equal(head.select(2, 4), head.select(2, t))) << t;
  EXPECT_FALSE(at::equal(head.select(2, 4), head.select(2, 25)));
  const at::Tensor tail = read_reference_video(
      path, {.height = 32, .width = 32, .fps = 24, .frames = 96, .position = media::Position::kLast});
  EXPECT_TRUE(at::equal(tail.slice(2, 0, 29), head.slice(2, 4, 33)));
}

TEST_F(ReferenceMediaTest, ReadingEndsWithWhatIsThrownMeanwhile) {
  const fs::path path = write_video("a.mp4", 24, 40);
  for (const auto position : {media::Position::kFirst, media::Position::kLast}) {
    for (const int stop_at : {1, 30}) {
      int calls = 0;
      const auto poll = [&] {
        if (++calls == stop_at) throw InterruptedError(15);
      };
      EXPECT_THROW(read_reference_video(
                       path, {.height = 32, .width = 32, .fps = 24, .frames = 33, .position = position, .poll = poll}),
                   InterruptedError);
      EXPECT_EQ(calls, stop_at);
    }
  }
}

// --- what is said of them -------------------------------------------------------------------------

TEST(ReferenceMedia, SaysWhatIsCutOffAndWhichFrameIsTaken) {
  const test::TemporaryFolder folder;
  const std::vector<uint8_t> pixels(80 * 60 * 3, 100);
  media::write_png(folder.path() / "a.png", pixels.data(), 80, 60, false);
  const auto said = [&](const std::string& name, int64_t height, int64_t width,
                        media::Position position = media::Position::kFirst) {
    const test::LogCapture log;
    read_reference_picture(folder.path() / name, height, width, position);
    return log.text();
  };
  EXPECT_TRUE(contains(said("a.png", 32, 32), "a.png: 80x60 is scaled to fill 32x32; 25 % of its width is cut off"));
  EXPECT_TRUE(contains(said("a.png", 16, 64), "67 % of its height is cut off"));
  EXPECT_EQ(said("a.png", 30, 40), "");
  EXPECT_EQ(said("a.png", 120, 160), "");

  media::VideoWriter writer(folder.path() / "a.mp4", {.width = 32, .height = 32, .fps = 24}, false);
  for (int i = 0; i < 3; ++i) writer.write(pixels.data());
  writer.finish();
  EXPECT_TRUE(contains(said("a.mp4", 32, 32), "is a video; its first frame is taken"));
  EXPECT_TRUE(contains(said("a.mp4", 32, 32, media::Position::kLast), "is a video; its last frame is taken"));
  EXPECT_TRUE(contains(said("a.mp4", 32, 16), "50 % of its width is cut off"));
}

TEST(ReferenceMedia, SaysThatAPictureIsNoVideo) {
  const test::TemporaryFolder folder;
  const std::vector<uint8_t> pixels(8 * 8 * 3, 100);
  media::write_png(folder.path() / "a.png", pixels.data(), 8, 8, false);
  for (const media::Position position : {media::Position::kFirst, media::Position::kLast}) {
    const std::string error = error_of([&] {
      read_reference_video(folder.path() / "a.png",
                           {.height = 8, .width = 8, .fps = 24, .frames = 33, .position = position});
    });
    EXPECT_TRUE(contains(error, "a.png: is a picture, and a video of at least 33 frames is needed"));
    EXPECT_TRUE(contains(error, "`image`"));
  }
}

}  // namespace
}  // namespace opensora::run
