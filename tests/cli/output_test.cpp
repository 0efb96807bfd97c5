// What generate writes beside and into the video: codecs, contact sheet, frames, previews; and suspicious results.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "opensora/error.h"
#include "opensora/generate.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/read_video.h"
#include "support/reference.h"
#include "support/temporary_folder.h"
#include "support/write_media.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::Arguments;
using test::contains;
using test::ProgramResult;
using test::read_file;
using test::run_program;

class OutputOptions : public ::testing::Test {
 protected:
  // The demo model in few steps: 33 frames.
  ProgramResult generate(const std::string& output, const Arguments& more) const {
    Arguments arguments = {"generate",
                           "--model-dir",
                           std::string(OPENSORA_CONFIGS) + "/demo",
                           "-p",
                           "a red circle moving right on a blue background",
                           "-s",
                           "42",
                           "--device",
                           "cpu",
                           "--steps",
                           "3",
                           "--output-size",
                           "none",
                           "-o",
                           path(output)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }
  fs::path path(const std::string& name) const { return folder_.path() / name; }

  test::TemporaryFolder folder_;
};

TEST_F(OutputOptions, ExtrasDoNotChangeTheVideo) {
  ASSERT_EQ(generate("plain.mp4", {}).exit_code, 0);
  const ProgramResult result = generate("a.mp4", {"--preview-every", "1", "--contact-sheet", path("sheet.png"),
                                                  "--save-frames", path("deep/frames"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(read_file(path("a.mp4")) == read_file(path("plain.mp4")));
  EXPECT_FALSE(fs::exists(path("a.preview.png"))) << "removed at the end";
  EXPECT_TRUE(nlohmann::json::parse(result.out)["suspicious"].is_string());

  const test::DecodedVideo video = test::read_video(path("a.mp4")), sheet = test::read_video(path("sheet.png"));
  const int gap = 4;
  EXPECT_EQ(sheet.width, 4 * video.width + 3 * gap);
  EXPECT_EQ(sheet.height, 3 * video.height + 2 * gap);
  int frames = 0;
  for (const auto& entry : fs::directory_iterator(path("deep/frames"))) frames += entry.path().extension() == ".png";
  EXPECT_EQ(frames, 33);
  // The sheet's corners are the first frame and, in the last cell, the last one; both as the PNGs have them.
  const test::DecodedVideo first = test::read_video(path("deep/frames/frame-00001.png"));
  const test::DecodedVideo last = test::read_video(path("deep/frames/frame-00033.png"));
  for (const int x : {0, 20, video.width - 1}) {
    EXPECT_EQ(sheet.frames[0].at(x, 5, 0, sheet.width), first.frames[0].at(x, 5, 0, video.width));
    EXPECT_EQ(sheet.frames[0].at(3 * (video.width + gap) + x, 2 * (video.height + gap) + 5, 2, sheet.width),
              last.frames[0].at(x, 5, 2, video.width));
  }
}

TEST_F(OutputOptions, APreviewIsThereWhileSampling) {
  GenerateRequest request;
  request.prompt = "a red circle moving right on a blue background";
  request.model_dir = std::string(OPENSORA_CONFIGS) + "/demo";
  request.config = load_config(request.model_dir / "config.json");
  request.config.sampling.num_steps = 5;
  request.seed = 42;
  request.device = "cpu";
  request.output = path("a.mp4");
  request.preview_every = 2;
  std::vector<bool> there;
  opensora::generate(request, [&](const Progress& progress) {
    if (progress.stage == "denoise" && progress.done > 0) there.push_back(fs::exists(path("a.preview.png")));
  });
  EXPECT_EQ(there, (std::vector<bool>{false, true, true, true, true}));
  EXPECT_FALSE(fs::exists(path("a.preview.png")));
  EXPECT_TRUE(fs::exists(path("a.mp4")));
}

TEST_F(OutputOptions, TwoOutputsInOneFileAreRefusedAtTheStart) {
  const std::vector<Arguments> same = {{"--save-tensors", path("a.mp4")},
                                       {"--contact-sheet", path("a.png"), "--save-tensors", path("./a.png")},
                                       {"--sidecar", "--save-tensors", path("a.json")},
                                       {"--save-tensors", path("a.latent.safetensors")}};
  for (Arguments flags : same) {
    flags.emplace_back("--overwrite");
    const ProgramResult result = generate("a.mp4", flags);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_TRUE(contains(result.err, "--save-tensors would be the same file") ||
                contains(result.err, "--save-tensors and "))
        << result.err;
  }
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(OutputOptions, ExistingExtrasAreKeptUnlessToldOtherwise) {
  folder_.write("sheet.png", "old");
  folder_.write("frames/frame-00007.png", "old");
  const ProgramResult sheet = generate("a.mp4", {"--contact-sheet", path("sheet.png")});
  EXPECT_EQ(sheet.exit_code, 7);
  EXPECT_TRUE(contains(sheet.err, "sheet.png exists; give --overwrite")) << sheet.err;
  const ProgramResult frames = generate("a.mp4", {"--save-frames", path("frames")});
  EXPECT_EQ(frames.exit_code, 7);
  EXPECT_TRUE(contains(frames.err, "frame-00007.png exists; give --overwrite")) << frames.err;
  EXPECT_EQ(read_file(path("sheet.png")) + read_file(path("frames/frame-00007.png")), "oldold");
  EXPECT_FALSE(fs::exists(path("a.mp4")));
  const ProgramResult both =
      generate("a.mp4", {"--contact-sheet", path("sheet.png"), "--save-frames", path("frames"), "--overwrite"});
  EXPECT_EQ(both.exit_code, 0) << both.err;
  EXPECT_EQ(test::read_video(path("frames/frame-00007.png")).codec, "png");
}

TEST_F(OutputOptions, CodecsAndContainers) {
  const ProgramResult lossless = generate("a.mkv", {"--codec", "ffv1", "--save-frames", path("frames")});
  ASSERT_EQ(lossless.exit_code, 0) << lossless.err;
  const test::DecodedVideo video = test::read_video(path("a.mkv"));
  EXPECT_EQ(video.codec, "ffv1");
  ASSERT_EQ(video.frames.size(), 33U);
  EXPECT_TRUE(video.frames[20].rgb == test::read_video(path("frames/frame-00021.png")).frames[0].rgb);

  const auto refused = [&](const std::string& output, const Arguments& more, const std::string& words) {
    const ProgramResult result = generate(output, more);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_TRUE(contains(result.err, words)) << result.err;
    EXPECT_FALSE(fs::exists(path(output)));
  };
  refused("b.mp4", {"--codec", "ffv1"}, "name a .mkv instead");
  refused("b.mkv", {"--codec", "ffv1", "--crf", "5"}, "--crf: ffv1 is lossless");
  refused("b.mp4", {"--codec", "av1"}, "--codec");
  refused("b.mp4", {"--pix-fmt", "yuv999"}, "--pix-fmt yuv999: this FFmpeg's H.264 encoder takes rgb, yuv420p, ");
  refused("b.avi", {}, "a video is written as .mp4, .mov or .mkv, found \".avi\"");
  refused("b.mp4", {"--contact-sheet", path("sheet.jpg")}, "--contact-sheet");
  refused("b.mp4", {"--preview-every", "-1"}, "--preview-every");
}

TEST(DefaultOutput, HasTheCodecsExtension) {
  EXPECT_EQ(default_output("A red circle", 7, 33), "a-red-circle-7.mp4");
  EXPECT_EQ(default_output("A red circle", 7, 33, "h265"), "a-red-circle-7.mp4");
  EXPECT_EQ(default_output("A red circle", 7, 33, "ffv1"), "a-red-circle-7.mkv");
  EXPECT_EQ(default_output("A red circle", 7, 1, "ffv1"), "a-red-circle-7.png");
}

// The reference checkpoint with a decoder whose last layer is zero: all frames are grey.
TEST_F(OutputOptions, StrictnessTellsASuspiciousVideo) {
  const fs::path model = path("ckpts");
  fs::copy(test::checkpoint_dir(), model, fs::copy_options::recursive);
  const auto vae = io::Checkpoint::open(test::checkpoint_dir() / "hunyuan_vae.safetensors");
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const std::string& name : vae->names()) {
    const at::Tensor tensor = *vae->find(name, vae->info(name).shape);
    tensors.emplace_back(name, name.starts_with("decoder.conv_out.") ? at::zeros_like(tensor) : tensor);
  }
  io::save_safetensors(model / "hunyuan_vae.safetensors", tensors, {}, /*overwrite=*/true);
  const auto quick = [&](const std::string& output, const Arguments& more) {
    Arguments arguments = {
        "generate", "--model-dir", model,          "--config", model / "tiny.json", "-p", "rain", "-W", "32",
        "-H",       "32",          "--num-frames", "5",        "--steps",           "1",  "-s",   "1",  "--device",
        "cpu",      "-o",          path(output)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  };
  const ProgramResult lenient = quick("a.mp4", {"--json"});
  EXPECT_EQ(lenient.exit_code, 0) << lenient.err;
  EXPECT_EQ(nlohmann::json::parse(lenient.out)["suspicious"], "all of one colour");
  EXPECT_TRUE(contains(lenient.err, "a.mp4: the output is all of one colour")) << lenient.err;
  const ProgramResult strict = quick("b.mp4", {"--strict"});
  EXPECT_EQ(strict.exit_code, 8) << strict.err;
  EXPECT_EQ(strict.out, "");
  EXPECT_TRUE(contains(strict.err, "opensora: error: " + path("b.mp4").string() + ": the output is all of one colour"));
  EXPECT_EQ(test::read_video(path("b.mp4")).frames.size(), 5U) << "it is kept";
  const ProgramResult reported = quick("c.mp4", {"--strict", "--json"});
  EXPECT_EQ(reported.exit_code, 8) << reported.err;
  const nlohmann::json report = nlohmann::json::parse(reported.out);
  EXPECT_EQ(report["output"], path("c.mp4").string());
  EXPECT_EQ(report["suspicious"], "all of one colour");
  EXPECT_EQ(report["code"], 8);
}

}  // namespace
}  // namespace opensora
