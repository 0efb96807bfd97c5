// opensora reconstruct, run as users run it.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "media/png.h"
#include "media/video_writer.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/read_video.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::ProgramResult;
using test::run_program;

// uint8 [H, W, 3]: smooth, and different in each frame.
at::Tensor picture(int width, int height, int t) {
  const at::Tensor x = at::arange(width, at::kFloat).view({1, width, 1});
  const at::Tensor y = at::arange(height, at::kFloat).view({height, 1, 1});
  const at::Tensor c = at::arange(3, at::kFloat).view({1, 1, 3});
  return ((x * 0.2 + y * 0.15 + c + t * 0.3).sin() * 100 + 128).to(at::kByte).contiguous();
}

struct Kind {
  const char* name;
  const char* config;
  const char* choice;
  const char* weights;
};
constexpr Kind kKinds[] = {{"hunyuan_vae", "tiny.json", "video", "hunyuan_vae.safetensors"},
                           {"dc_ae", "tiny_high_compression.json", "video", "F32T4C128_AE.safetensors"},
                           {"autoencoder_2d", "tiny_t2i2v.json", "flux", "flux1-dev-ae.safetensors"}};

class ReconstructCommand : public ::testing::Test {
 protected:
  fs::path write_picture(int width, int height) const {
    const fs::path file = folder_.path() / ("in" + std::to_string(width) + "x" + std::to_string(height) + ".png");
    media::write_png(file, picture(width, height, 0).const_data_ptr<uint8_t>(), width, height, /*overwrite=*/true);
    return file;
  }

  fs::path write_clip(int width, int height, int frames, int fps = 24) const {
    const fs::path file = folder_.path() / "in.mp4";
    media::VideoWriter writer(file, {.width = width, .height = height, .fps = fps}, /*overwrite=*/true);
    for (int t = 0; t < frames; ++t) writer.write(picture(width, height, t).const_data_ptr<uint8_t>());
    writer.finish();
    return file;
  }

  // With the reference checkpoints.
  ProgramResult run(const fs::path& input, const fs::path& output, const std::vector<std::string>& more,
                    const std::string& config = "tiny.json") const {
    std::vector<std::string> arguments = {"reconstruct", input,
                                          "-o",          output,
                                          "--model-dir", test::checkpoint_dir(),
                                          "--config",    test::checkpoint_dir() / config,
                                          "--device",    "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }

  nlohmann::json run_json(const fs::path& input, const fs::path& output, std::vector<std::string> more,
                          const std::string& config = "tiny.json") const {
    more.insert(more.end(), {"--json", "--overwrite"});
    const ProgramResult result = run(input, output, more, config);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.exit_code == 0 ? nlohmann::json::parse(result.out) : nlohmann::json();
  }

  void expect_error(const fs::path& input, const fs::path& output, const std::vector<std::string>& more, int exit_code,
                    const std::string& words, const std::string& config = "tiny.json") const {
    const ProgramResult result = run(input, output, more, config);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(contains(result.err, "opensora: error: "));
    EXPECT_TRUE(contains(result.err, words));
    EXPECT_FALSE(contains(result.err, "load:")) << "weights were loaded first";
    EXPECT_FALSE(fs::exists(output));
  }

  fs::path out(const std::string& name) const { return folder_.path() / name; }

  test::TemporaryFolder folder_;
};

// The demo model's own clips, with its own autoencoder.
TEST_F(ReconstructCommand, IsGoodWithATrainedAutoencoder) {
  const std::string demo = std::string(OPENSORA_CONFIGS) + "/demo";
  const ProgramResult made =
      run_program({"generate", "--model-dir", demo, "-p", "a red circle moving right on a blue background", "-s", "42",
                   "--device", "cpu", "--output-size", "64x64", "-o", out("clip.mp4")});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const ProgramResult result = run_program(
      {"reconstruct", out("clip.mp4"), "-o", out("back.mp4"), "--model-dir", demo, "--device", "cpu", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  std::printf("PSNR %.2f dB, SSIM %.4f\n", json["psnr"]["mean"].get<double>(), json["ssim"]["mean"].get<double>());
  EXPECT_GT(json["psnr"]["mean"], 30);  // measured: 31.2 and 0.948
  EXPECT_GT(json["ssim"]["mean"], 0.93);
  EXPECT_EQ(json["frames"], 33);
  EXPECT_EQ(json["latent_shape"], nlohmann::json({16, 9, 8, 8}));
  EXPECT_EQ(test::read_video(out("back.mp4")).frames.size(), 33U);
}

TEST_F(ReconstructCommand, DoesPicturesOfAnySizeWithEachAutoencoder) {
  for (const Kind& kind : kKinds) {
    for (const auto& [width, height] : {std::pair{64, 64}, std::pair{45, 37}, std::pair{1, 1}}) {
      const auto json =
          run_json(write_picture(width, height), out("out.png"), {"--autoencoder", kind.choice}, kind.config);
      EXPECT_EQ(json["autoencoder"], kind.name);
      EXPECT_EQ(json["width"], width);
      EXPECT_EQ(json["height"], height);
      EXPECT_EQ(json["frames"], 1);
      EXPECT_EQ(json["psnr"]["frames"].size(), 1U);
      EXPECT_EQ(json["ssim"]["frames"].size(), 1U);
      const test::DecodedVideo picture = test::read_video(out("out.png"));
      EXPECT_EQ(picture.width, width);
      EXPECT_EQ(picture.height, height);
    }
  }
}

// Six frames: one more than HunyuanVAE's 4k+1, no multiple of DC-AE's four. Edges that no compression divides.
TEST_F(ReconstructCommand, DoesVideosOfAnySizeWithEachAutoencoder) {
  const nlohmann::json latent_shapes[] = {{16, 3, 5, 7}, {128, 2, 2, 2}, {16, 6, 5, 7}};
  const fs::path clip = write_clip(50, 38, 6, 12);
  for (size_t i = 0; i < std::size(kKinds); ++i) {
    const auto json = run_json(clip, out("out.mp4"), {"--autoencoder", kKinds[i].choice}, kKinds[i].config);
    EXPECT_EQ(json["autoencoder"], kKinds[i].name);
    EXPECT_EQ(json["frames"], 6);
    EXPECT_EQ(json["latent_shape"], latent_shapes[i]);
    EXPECT_EQ(json["psnr"]["frames"].size(), 6U);
    EXPECT_EQ(json["ssim"]["frames"].size(), 6U);
    const test::DecodedVideo video = test::read_video(out("out.mp4"));
    EXPECT_EQ(video.frames.size(), 6U);
    EXPECT_EQ(video.width, 50);
    EXPECT_EQ(video.height, 38);
    EXPECT_NEAR(video.fps, 12, 1e-6);
  }
}

TEST_F(ReconstructCommand, RecognisesTheWeights) {
  const fs::path input = write_picture(32, 32);
  for (const Kind& kind : kKinds) {  // each with a configuration that has its parameters
    const std::string config = std::string(kind.name) == "hunyuan_vae" ? "tiny_t2i2v.json" : kind.config;
    const auto json = run_json(input, out("out.png"), {"--vae", test::checkpoint_dir() / kind.weights}, config);
    EXPECT_EQ(json["autoencoder"], kind.name);
  }
  // The official parameters of a kind that the configuration lacks do not fit a tiny one.
  const ProgramResult result =
      run(input, out("no.png"), {"--vae", test::checkpoint_dir() / "F32T4C128_AE.safetensors"}, "tiny.json");
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_TRUE(contains(result.err, "the official parameters are used"));
}

TEST_F(ReconstructCommand, ShowsBothSideBySide) {
  const fs::path input = write_picture(45, 37);
  run_json(input, out("alone.png"), {});
  run_json(input, out("both.png"), {"--side-by-side"});
  const test::DecodedVideo alone = test::read_video(out("alone.png")), both = test::read_video(out("both.png"));
  EXPECT_EQ(both.width, 90);
  EXPECT_EQ(both.height, 37);
  const at::Tensor original = picture(45, 37, 0);
  for (int y = 0; y < 37; ++y) {
    for (int x = 0; x < 45; ++x) {
      ASSERT_EQ(both.frames[0].at(x, y, 0, 90), original[y][x][0].item<int>());
      ASSERT_EQ(both.frames[0].at(45 + x, y, 0, 90), alone.frames[0].at(x, y, 0, 45));
    }
  }
  run_json(write_clip(48, 32, 3), out("both.mp4"), {"--side-by-side"});
  EXPECT_EQ(test::read_video(out("both.mp4")).width, 96);
}

// Tiles of 64 pixels and 16 frames: within one, tiling changes nothing; beyond, it does.
TEST_F(ReconstructCommand, TilesWhatIsLargerThanATile) {
  const fs::path small = write_picture(64, 48), large = write_picture(160, 96);
  const auto quality = [&](const fs::path& input, const std::string& flag) {
    const auto json = run_json(input, out("out.png"), {flag});
    return json["psnr"]["mean"].get<double>();
  };
  EXPECT_EQ(quality(small, "--vae-tiling"), quality(small, "--no-vae-tiling"));
  EXPECT_NE(quality(large, "--vae-tiling"), quality(large, "--no-vae-tiling"));
}

TEST_F(ReconstructCommand, DrawsFromThePosteriorBySeed) {
  const fs::path input = write_picture(32, 32);
  const auto quality = [&](const std::vector<std::string>& flags) {
    return run_json(input, out("out.png"), flags)["psnr"]["mean"].get<double>();
  };
  EXPECT_EQ(quality({"--sample-posterior", "-s", "7"}), quality({"--sample-posterior", "-s", "7"}));
  EXPECT_NE(quality({"--sample-posterior", "-s", "7"}), quality({"--sample-posterior", "-s", "8"}));
  EXPECT_NE(quality({"--sample-posterior"}), quality({}));
}

TEST_F(ReconstructCommand, ReadsOnlyTheFirstFrames) {
  const fs::path clip = write_clip(32, 32, 6);
  EXPECT_EQ(run_json(clip, out("out.mp4"), {"--max-frames", "4"})["frames"], 4);
  EXPECT_EQ(run_json(clip, out("out.png"), {"--max-frames", "1"})["frames"], 1);
}

TEST_F(ReconstructCommand, PrintsALine) {
  const ProgramResult result = run(write_picture(32, 32), out("out.png"), {"-q"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(result.out.starts_with("PSNR ")) << result.out;
  EXPECT_TRUE(contains(result.out, "SSIM "));
  EXPECT_TRUE(contains(result.out, out("out.png").string()));
  EXPECT_EQ(result.err, "");
}

TEST_F(ReconstructCommand, RefusesBadInputsBeforeLoadingWeights) {
  const fs::path input = write_picture(32, 32);
  const fs::path text = folder_.write("text.png", "not a picture");
  expect_error(out("missing.png"), out("a.png"), {}, 9, "missing.png");
  expect_error(text, out("a.png"), {}, 9, "text.png");
  expect_error(folder_.path(), out("a.png"), {}, 9, folder_.path());
  expect_error(input, out("a.mp4"), {}, 2, "one frame is written as .png");
  expect_error(write_clip(32, 32, 2), out("a.png"), {}, 2, "a video is written as .mp4");
  expect_error(write_picture(9000, 8), out("a.png"), {"--side-by-side"}, 2, "18000 pixels wide");
  expect_error(input, out("no/a.png"), {}, 7, "no");
  expect_error(input, out("a.png"), {"--crf", "52"}, 2, "--crf");
  expect_error(input, out("a.png"), {"--max-frames", "0"}, 2, "--max-frames");
  expect_error(input, out("a.png"), {"--autoencoder", "flux"}, 2, "no img_flux_ae");
  expect_error(input, out("a.png"), {"--autoencoder", "vqgan"}, 2, "--autoencoder");
  expect_error(input, out("a.png"), {"--autoencoder", "flux", "--vae", text}, 2, "excludes");
  expect_error(input, out("a.png"), {"--vae", out("missing.safetensors")}, 4, "missing.safetensors");
  expect_error(input, out("a.png"), {"--vae", text}, 4, "text.png");
  expect_error(input, out("a.png"), {"--vae", test::checkpoint_dir() / "Open_Sora_v2.safetensors"}, 4,
               "no autoencoder");
}

TEST_F(ReconstructCommand, LeavesAnExistingFileAlone) {
  const fs::path input = write_picture(32, 32), taken = folder_.write("taken.png", "mine");
  const ProgramResult result = run(input, taken, {});
  EXPECT_EQ(result.exit_code, 7) << result.err;
  EXPECT_TRUE(contains(result.err, "taken.png"));
  EXPECT_EQ(fs::file_size(taken), 4U);
}

}  // namespace
}  // namespace opensora
