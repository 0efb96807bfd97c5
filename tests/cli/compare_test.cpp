// opensora compare, run as users run it.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"
#include "media/png.h"
#include "media/video_writer.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/read_video.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::Arguments;
using test::contains;
using test::operator+;
using test::ProgramResult;
using test::run_program;

at::Tensor flat(int value, int64_t width = 24) { return at::full({16, width, 3}, value, at::kByte); }

class CompareCommand : public ::testing::Test {
 protected:
  fs::path path(const std::string& name) const { return folder_.path() / name; }

  fs::path write_picture(const std::string& name, const at::Tensor& rgb) const {
    fs::create_directories(path(name).parent_path());
    media::write_png(path(name), rgb.const_data_ptr<uint8_t>(), static_cast<int>(rgb.size(1)),
                     static_cast<int>(rgb.size(0)), /*overwrite=*/true);
    return path(name);
  }

  // Lossless.
  fs::path write_clip(const std::string& name, const std::vector<at::Tensor>& frames) const {
    media::VideoWriter writer(path(name), {.width = 24, .height = 16, .fps = 24, .codec = "ffv1"}, /*overwrite=*/true);
    for (const at::Tensor& frame : frames) writer.write(frame.const_data_ptr<uint8_t>());
    writer.finish();
    return path(name);
  }

  fs::path write_latent(const std::string& name, const at::Tensor& latent) const {
    io::stage_safetensors(path(name), {{"latent", latent}}, {}, /*overwrite=*/true)->commit();
    return path(name);
  }

  nlohmann::json json_of(const fs::path& first, const fs::path& second, const Arguments& more = {}) const {
    const ProgramResult result = run_program(Arguments{"compare", first, second, "--json"} + more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.exit_code == 0 ? nlohmann::json::parse(result.out) : nlohmann::json();
  }

  void expect_refusal(const fs::path& first, const fs::path& second, const Arguments& more, int code,
                      const std::string& words) const {
    const ProgramResult result = run_program(Arguments{"compare", first, second} + more);
    EXPECT_EQ(result.exit_code, code) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(contains(result.err, words));
  }

  test::TemporaryFolder folder_;
};

double psnr_of(double error) { return 10 * std::log10(255 * 255 / error); }

TEST_F(CompareCommand, SaysHowMuchTheFramesOfVideosDiffer) {
  const fs::path a = write_clip("a.mkv", {flat(100), flat(100), flat(100)});
  const fs::path b = write_clip("b.mkv", {flat(100), flat(110), flat(105)});
  const nlohmann::json json = json_of(a, b, {"--worst", path("worst.png")});
  EXPECT_EQ(json["frames"], 3);
  EXPECT_EQ(json["width"], 24);
  EXPECT_EQ(json["height"], 16);
  EXPECT_TRUE(json["psnr"]["frames"][0].is_null()) << "nothing differs: infinite";
  EXPECT_NEAR(json["psnr"]["frames"][1], psnr_of(100), 1e-9);
  EXPECT_NEAR(json["psnr"]["frames"][2], psnr_of(25), 1e-9);
  EXPECT_NEAR(json["psnr"]["total"], psnr_of(125.0 / 3), 1e-9);
  EXPECT_EQ(json["worst_frame"], 2);
  const double c1 = 6.5025;  // (0.01 * 255)^2: flat frames differ in their means alone
  const double second = (2 * 100 * 110 + c1) / (100 * 100 + 110 * 110 + c1);
  const double third = (2 * 100 * 105 + c1) / (100 * 100 + 105 * 105 + c1);
  EXPECT_EQ(json["ssim"]["frames"][0], 1);
  EXPECT_NEAR(json["ssim"]["frames"][1], second, 1e-9);
  EXPECT_NEAR(json["ssim"]["mean"], (1 + second + third) / 3, 1e-9);

  const test::DecodedVideo worst = test::read_video(path("worst.png"));
  EXPECT_EQ(worst.width, 2 * 24);
  EXPECT_EQ(worst.frames.at(0).at(23, 8, 0, worst.width), 100);
  EXPECT_EQ(worst.frames.at(0).at(24, 8, 0, worst.width), 110);
}

TEST_F(CompareCommand, OfEqualFilesIsInfinite) {
  const fs::path a = write_picture("a.png", flat(7));
  const nlohmann::json json = json_of(a, a);
  EXPECT_TRUE(json["psnr"]["total"].is_null());
  EXPECT_EQ(json["ssim"]["mean"], 1);
  EXPECT_TRUE(contains(run_program({"compare", a, a}).out, "1 frame(s) of 24x16: PSNR inf dB, SSIM 1.0000"));
}

TEST_F(CompareCommand, TakesFoldersOfFrames) {
  for (int t = 11; t >= 1; --t) {
    const std::string name = "/frame-000" + std::to_string(10 + t) + ".png";
    write_picture("a" + name, flat(t));
    write_picture("b" + name, flat(t == 11 ? 20 : t));
  }
  const nlohmann::json json = json_of(path("a"), path("b"));
  EXPECT_EQ(json["frames"], 11);
  EXPECT_EQ(json["worst_frame"], 11);
  EXPECT_NEAR(json["psnr"]["total"], psnr_of(81.0 / 11), 1e-9);
  fs::create_directory(path("empty"));
  expect_refusal(path("a"), path("empty"), {}, 9, "a folder without .png files");
}

TEST_F(CompareCommand, LeavesOutFramesThatOnlyOneHas) {
  const fs::path a = write_clip("a.mkv", {flat(100), flat(100)});
  const fs::path b = write_clip("b.mkv", {flat(110), flat(110), flat(0), flat(0)});
  for (const auto& [first, second] : {std::pair(a, b), std::pair(b, a)}) {
    const nlohmann::json json = json_of(first, second);
    EXPECT_EQ(json["frames"], 2);
    EXPECT_EQ(json["first_frames"], first == a ? 2 : 4);
    EXPECT_EQ(json["second_frames"], first == a ? 4 : 2);
    EXPECT_NEAR(json["psnr"]["total"], psnr_of(100), 1e-9);
  }
  EXPECT_TRUE(contains(run_program({"compare", a, b}).err, "has 4: the first 2 are compared"));
}

TEST_F(CompareCommand, SaysHowMuchLatentsDiffer) {
  const at::Tensor latent = at::arange(1, 25, at::kFloat).view({1, 2, 3, 2, 2});
  const fs::path a = write_latent("a.latent.safetensors", latent);
  const fs::path b = write_latent("b.latent.safetensors", latent * 1.25);
  const nlohmann::json json = json_of(a, b);
  EXPECT_NEAR(json["relative_error"], 0.25, 1e-9);
  EXPECT_EQ(json["latent_shape"], nlohmann::json({1, 2, 3, 2, 2}));
  EXPECT_EQ(json_of(b, b)["relative_error"], 0);
  EXPECT_TRUE(contains(run_program({"compare", b, a}).out, "latents: relative L2 error 0.2\n"));
  expect_refusal(a, write_latent("c.safetensors", latent.narrow(2, 0, 1)), {}, 2, "is 1x2x3x2x2");
  expect_refusal(a, write_picture("a.png", flat(1)), {}, 2, "a.latent.safetensors is a latent and");
  expect_refusal(a, b, {"--worst", path("worst.png")}, 2, "--worst: latents have no frames");
}

TEST_F(CompareCommand, RefusesWhatCannotBeCompared) {
  const fs::path a = write_picture("a.png", flat(1)), wide = write_picture("wide.png", flat(1, 30));
  expect_refusal(a, wide, {}, 2, "a.png is 24x16, " + wide.string() + " is 30x16");
  expect_refusal(a, path("nothere.png"), {}, 9, "nothere.png");
  expect_refusal(a, a, {"--worst", path("worst.jpg")}, 2, "expected .png, found \".jpg\"");
  expect_refusal(a, a, {"--worst", a}, 7, "a.png");
}

// What it has measured before.
TEST_F(CompareCommand, ItsScriptTellsAndDrawsWhatSpeedUpsCost) {
  if (std::system("python3 --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "Python is not installed";
  const fs::path script = fs::path(OPENSORA_CONFIGS).parent_path() / "scripts/compare_speedups.py";
  const std::string results = folder_.write("results.json", R"({"text": {
      "exact": {"forwards": 80, "median": 0, "worst": 0},
      "25 steps": {"forwards": 43, "median": 0.0735, "worst": 0.1407},
      "16 steps": {"forwards": 29, "median": 0.1053, "worst": 0.2611},
      "unipc, 50 steps": {"forwards": 80, "median": 0.0294, "worst": 0.0658}}})");
  const std::string plot = path("plot.svg"), table = path("table.md");
  const std::string command = "python3 '" + script.string() + "' --only nothing --results '" + results + "' -o '" +
                              plot + "' > '" + table + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_TRUE(contains(test::read_file(table), "| exact | 80 | 0, 0 |\n| 25 steps | 43 | 0.073, 0.14 |"));
  const std::string svg = test::read_file(plot);
  for (const char* text : {">fewer steps</text>", ">unipc</text>", "</svg>"}) EXPECT_TRUE(contains(svg, text));
  EXPECT_FALSE(contains(svg, ">heun</text>"));
}

}  // namespace
}  // namespace opensora
