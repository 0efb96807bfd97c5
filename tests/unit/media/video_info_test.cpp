// What is read of a video without decoding it, and the comment that goes with it.
#include "media/video_info.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "media/video_writer.h"
#include "opensora/error.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/temporary_folder.h"
#include "support/write_media.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::read_file;

class VideoInfoTest : public testing::Test {
 protected:
  // `count` grey frames that get lighter.
  fs::path write(const std::string& name, VideoOptions options, int count = 5) const {
    fs::path path = folder_.path() / name;
    if (options.width == 0) options.width = options.height = 16;
    VideoWriter writer(path, options, /*overwrite=*/true);
    for (int i = 0; i < count; ++i) {
      const std::vector<uint8_t> frame(static_cast<size_t>(options.width) * options.height * 3,
                                       static_cast<uint8_t>(50 + 4 * i));
      writer.write(frame.data());
    }
    writer.finish();
    return path;
  }

  test::TemporaryFolder folder_;
};

TEST_F(VideoInfoTest, SizeFramesRateDurationAndCodec) {
  const VideoInfo info = read_video_info(write("a.mp4", {.width = 48, .height = 32, .fps = 25}, 33));
  EXPECT_EQ(info.width, 48);
  EXPECT_EQ(info.height, 32);
  EXPECT_EQ(info.frames, 33);
  EXPECT_EQ(info.fps, 25);
  EXPECT_NEAR(info.duration, 33 / 25.0, 1e-9);
  EXPECT_EQ(info.codec, "h264");
  EXPECT_EQ(info.pixel_format, "yuv420p");
  EXPECT_EQ(info.comment, "");
}

TEST_F(VideoInfoTest, CommentsComeBackWhateverIsInThem) {
  const std::vector<std::string> comments = {
      "x",
      " a line\nand\tanother\r\n, \"quotes\" \\ = ; # ",
      "é ß 雨、海 \U0001F30A\U0001F468‍\U0001F469‍\U0001F467 \u202Eright to left\u202C \uFEFF \x01\x7f",
      nlohmann::json{{"prompt", "a \"sea\" \U0001F30A"}, {"seed", 18446744073709551615u}}.dump(),
      std::string(5000, 'j'),
      std::string(70000, 'k'),
      "{\"p\":\"" + std::string(1 << 20, 'm') + "\"}",
  };
  for (const std::string& comment : comments) {
    const std::string read = read_video_info(write("a.mp4", {.comment = comment}, 1)).comment;
    EXPECT_TRUE(read == comment) << comment.substr(0, 100) << "\n" << read.substr(0, 100);
  }
}

TEST_F(VideoInfoTest, TheSameCommentGivesTheSameBytes) {
  const std::string plain = read_file(write("plain.mp4", {})), none = read_file(write("none.mp4", {.comment = ""}));
  EXPECT_TRUE(plain == none);
  const std::string first = read_file(write("a.mp4", {.comment = "{\"seed\":1}"}));
  EXPECT_TRUE(first == read_file(write("b.mp4", {.comment = "{\"seed\":1}"})));
  EXPECT_FALSE(first == read_file(write("c.mp4", {.comment = "{\"seed\":2}"})));
  EXPECT_GT(first.size(), plain.size());
}

TEST_F(VideoInfoTest, ANullCharacterIsRefused) {
  EXPECT_THROW(write("a.mp4", {.comment = std::string("a\0b", 3)}), UsageError);
  EXPECT_FALSE(fs::exists(folder_.path() / "a.mp4"));
}

TEST_F(VideoInfoTest, FramesAreThoseThatAreThere) {
  const std::string whole = read_file(write("a.mp4", {.width = 64, .height = 64, .crf = 1}, 33));
  // The index comes first and still promises 33.
  const fs::path cut = folder_.write("cut.mp4", whole.substr(0, whole.size() - 100));
  EXPECT_LT(read_video_info(cut).frames, 33);
  EXPECT_GT(read_video_info(cut).frames, 0);
}

TEST_F(VideoInfoTest, Errors) {
  const auto message = [](const fs::path& path) {
    try {
      read_video_info(path);
    } catch (const InputMediaError& error) {
      EXPECT_TRUE(contains(error.what(), path.string())) << error.what();
      return std::string(error.what());
    }
    ADD_FAILURE() << path << " was read";
    return std::string();
  };
  EXPECT_TRUE(contains(message(folder_.path() / "none.mp4"), "No such file"));
  EXPECT_TRUE(contains(message(folder_.write("empty.mp4", "")), "is empty"));
  EXPECT_TRUE(contains(message(folder_.write("text.mp4", "not a video, whatever its name says")), "is a text file"));
  EXPECT_TRUE(contains(message(folder_.path()), "is a folder"));
  const std::string whole = read_file(write("a.mp4", {}));
  message(folder_.write("head.mp4", whole.substr(0, 200)));
}

// --- opensora inspect -----------------------------------------------------------------------------

TEST_F(VideoInfoTest, InspectPrintsTheMetadata) {
  const nlohmann::ordered_json metadata = {
      {"prompt", "rain, \U0001F30A"}, {"seed", 42}, {"lines", "a\nb"}, {"options", {{"steps", 50}}}};
  const fs::path path = folder_.path() / "a.MP4";
  fs::rename(write("a.mp4", {.width = 48, .height = 32, .comment = metadata.dump()}, 12), path);
  const test::ProgramResult text = test::run_program({"inspect", path});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  for (const char* line :
       {"a.MP4: video\n", "  size                 48x32\n", "  frames               12\n",
        "  frames a second      24\n", "  duration             0.500 s\n", "  codec                h264\n",
        "  pixel format         yuv420p\n", "  metadata prompt      rain, \U0001F30A\n", "  metadata seed        42\n",
        "  metadata lines       \"a\\nb\"\n", "  metadata options     {\"steps\":50}\n"}) {
    EXPECT_TRUE(contains(text.out, line)) << line << text.out;
  }
  const auto json = nlohmann::ordered_json::parse(test::run_program({"inspect", "--json", path}).out);
  EXPECT_EQ(json["metadata"].dump(), metadata.dump()) << "also in the same order";
  EXPECT_EQ(json["kind"], "video");
  EXPECT_EQ(json["width"], 48);
  EXPECT_EQ(json["height"], 32);
  EXPECT_EQ(json["frames"], 12);
  EXPECT_EQ(json["fps"], 24);
  EXPECT_EQ(json["duration"], 0.5);
  EXPECT_EQ(json["codec"], "h264");
  EXPECT_EQ(json["pixel_format"], "yuv420p");
  EXPECT_EQ(json["bytes"], fs::file_size(path));
  EXPECT_TRUE(json["comment"].is_null());
}

TEST_F(VideoInfoTest, InspectTakesAnyComment) {
  for (const char* comment : {"made by hand", "[1, 2]", "{\"broken\": ", "7"}) {
    const fs::path path = write("a.mp4", {.comment = comment});
    EXPECT_TRUE(contains(test::run_program({"inspect", path}).out, std::string("  comment              ") + comment));
    const auto json = nlohmann::json::parse(test::run_program({"inspect", "--json", path}).out);
    EXPECT_TRUE(json["metadata"].is_null());
    EXPECT_EQ(json["comment"], comment);
  }
  const test::ProgramResult without = test::run_program({"inspect", write("a.mp4", {})});
  EXPECT_FALSE(contains(without.out, "comment")) << without.out;
}

TEST_F(VideoInfoTest, InspectReportsADamagedVideo) {
  const test::ProgramResult result = test::run_program({"inspect", folder_.write("a.mp4", "nothing")});
  EXPECT_EQ(result.exit_code, 9);
  EXPECT_TRUE(contains(result.err, "a.mp4: is a text file; expected an image or a video"));
  EXPECT_EQ(test::run_program({"inspect", folder_.path() / "none.mp4"}).exit_code, 4);
}

}  // namespace
}  // namespace opensora::media
