// opensora inspect, as its users run it.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/safetensors.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"
#include "support/write_media.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::ProgramResult;
using test::run_program;

nlohmann::json inspect_json(const fs::path& path) {
  const ProgramResult result = run_program({"inspect", path, "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out);
}

TEST(InspectCommand, TellsTheKinds) {
  const nlohmann::json open_sora = inspect_json(test::checkpoint_dir() / "Open_Sora_v2.safetensors");
  EXPECT_EQ(open_sora["kind"], "Open-Sora transformer");
  EXPECT_EQ(open_sora["variant"]["qkv"], "separate");
  EXPECT_EQ(open_sora["variant"]["cond_embed"], "yes");
  EXPECT_EQ(open_sora["variant"]["guidance_embed"], "no");
  EXPECT_EQ(open_sora["variant"]["in_channels"], "64");
  EXPECT_EQ(open_sora["variant"]["depth"], "2");
  EXPECT_EQ(open_sora["variant"]["depth_single_blocks"], "3");
  EXPECT_EQ(open_sora["dtypes"], (nlohmann::json{{"BF16", 118}}));
  EXPECT_EQ(open_sora["bytes"], 2 * open_sora["parameters"].get<int64_t>());
  EXPECT_EQ(open_sora["metadata"]["format"], "pt");
  EXPECT_FALSE(open_sora.contains("tensors"));

  const nlohmann::json flux = inspect_json(test::checkpoint_dir() / "flux1-dev.safetensors");
  EXPECT_EQ(flux["kind"], "FLUX transformer");
  EXPECT_EQ(flux["variant"]["qkv"], "fused");
  EXPECT_EQ(flux["variant"]["guidance_embed"], "yes");

  const nlohmann::json vae = inspect_json(test::checkpoint_dir() / "hunyuan_vae.safetensors");
  EXPECT_EQ(vae["kind"], "HunyuanVAE");
  EXPECT_EQ(vae["variant"]["encoder"], "yes");
  EXPECT_EQ(vae["variant"]["levels"], "4");
}

TEST(InspectCommand, AFolderIsEveryCheckpointInIt) {
  const nlohmann::json all = inspect_json(test::checkpoint_dir());
  std::map<std::string, std::string> kinds;
  for (const nlohmann::json& one : all) kinds[fs::path(one["path"]).filename()] = one["kind"];
  EXPECT_EQ(kinds["model.safetensors.index.json"], "T5 encoder");
  EXPECT_EQ(kinds["model.safetensors"], "CLIP text encoder");
  EXPECT_FALSE(kinds.contains("model-00001-of-00002.safetensors")) << "a shard is part of its index";
}

TEST(InspectCommand, RecognisesOtherFilesByTheirTensors) {
  const test::TemporaryFolder folder;
  const auto kind = [&](const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
    io::save_safetensors(folder.path() / "x.safetensors", tensors, {}, true);
    return inspect_json(folder.path() / "x.safetensors")["kind"].get<std::string>();
  };
  EXPECT_EQ(kind({{"decoder.conv_in.weight", at::zeros({8, 4, 3, 3})}}), "FLUX autoencoder");
  EXPECT_EQ(kind({{"decoder.project_in.conv.weight", at::zeros({8, 4, 3, 3, 3})}}), "DC-AE");
  EXPECT_EQ(kind({{"net.decoder.project_in.main.conv.weight", at::zeros({8, 4, 3, 3, 3})}}), "DC-AE");
  EXPECT_EQ(kind({{"encoder.conv_in.conv.weight", at::zeros({8, 4, 3, 3, 3})}}), "HunyuanVAE") << "half of one";
  EXPECT_EQ(kind({{"latent", at::zeros({1})}, {"noise", at::zeros({1})}}), "Open-Sora tensors");
  EXPECT_EQ(kind({{"something", at::zeros({1})}}), "unknown");
}

TEST(InspectCommand, TextAndTensors) {
  const ProgramResult result =
      run_program({"inspect", test::checkpoint_dir() / "Open_Sora_v2.safetensors", "--tensors"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(contains(result.out, "Open_Sora_v2.safetensors: Open-Sora transformer"));
  EXPECT_TRUE(contains(result.out, "  img_in.weight  BF16 [64, 64]\n"));
  EXPECT_TRUE(contains(run_program({"inspect", "--help"}).out, "Examples:"));
}

// By what they hold: the name means nothing.
TEST(InspectCommand, VideosAndPicturesOfAnyName) {
  const test::TemporaryFolder folder;
  const auto frame = [](const char* format) {
    std::vector<media::FramePtr> frames;
    frames.push_back(test::make_frame(format, 32, 16, [](int, int, int) { return 90; }));
    return frames;
  };
  test::write_media(folder.path() / "clip.avi", {.codec = "mpeg4", .muxer = "avi"}, frame("yuv420p"));
  test::write_media(folder.path() / "clip.bin", {.codec = "mpeg4", .muxer = "mpegts"}, frame("yuv420p"));
  test::write_media(folder.path() / "a b.safetensors", {.codec = "png"}, frame("rgb24"));
  for (const std::string& name : {"clip.avi", "clip.bin"}) {
    const nlohmann::json info = inspect_json(folder.path() / name);
    EXPECT_EQ(info["kind"], "video") << name;
    EXPECT_EQ(info["width"], 32) << name;
    EXPECT_EQ(info["codec"], "mpeg4") << name;
  }
  const nlohmann::json picture = inspect_json("file://" + folder.path().string() + "/a%20b.safetensors");
  EXPECT_EQ(picture["kind"], "picture");
  EXPECT_EQ(picture["codec"], "png");
  EXPECT_EQ(picture["frames"], 1);
  EXPECT_TRUE(contains(run_program({"inspect", "https://example.org/a.mp4"}).err, "is a URL; only local files"));
}

TEST(InspectCommand, Errors) {
  const test::TemporaryFolder folder;
  const ProgramResult missing = run_program({"inspect", folder.path() / "none"});
  EXPECT_EQ(missing.exit_code, 4);
  EXPECT_TRUE(contains(missing.err, "none: no such file or folder"));
  const ProgramResult empty = run_program({"inspect", folder.path()});
  EXPECT_EQ(empty.exit_code, 4);
  EXPECT_TRUE(contains(empty.err, "holds no checkpoint"));
  // A damaged file among others: the others are shown.
  folder.write("broken.safetensors", "1234");
  io::save_safetensors(folder.path() / "good.safetensors", {{"a", at::zeros({1})}});
  const ProgramResult mixed = run_program({"inspect", folder.path()});
  EXPECT_EQ(mixed.exit_code, 4);
  EXPECT_TRUE(contains(mixed.out, "broken.safetensors: is 4 bytes long"));
  EXPECT_TRUE(contains(mixed.out, "good.safetensors: unknown"));
  EXPECT_TRUE(contains(mixed.err, "1 of 2 checkpoints cannot be read"));

  const fs::path pipe = folder.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_TRUE(contains(run_program({"inspect", pipe}).err, "pipe: is not a regular file"));
  const fs::path odd = folder.path() / "odd.safetensors";
  io::save_safetensors(odd, {{"a\nb", at::zeros({1})}}, {{"key", "x\033[31m"}});
  const ProgramResult told = run_program({"inspect", odd, "--tensors"});
  EXPECT_TRUE(contains(told.out, R"("x\u001b[31m")") && contains(told.out, R"("a\nb")")) << told.out;
  const std::string video = test::read_file(fs::path(OPENSORA_TEST_DATA) / "cases" / "pause_24fps.mp4");
  const ProgramResult cut = run_program({"inspect", folder.write("cut.mp4", video.substr(0, video.size() - 100))});
  EXPECT_EQ(cut.exit_code, 9);
  EXPECT_TRUE(contains(cut.err, "incomplete: its index (moov) should end at byte")) << cut.err;
}

}  // namespace
}  // namespace opensora
