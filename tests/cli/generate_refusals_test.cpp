// What `opensora generate` refuses: one line for each mistake, its exit code, and nothing left behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "support/generate_fixture.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::GenerateCommand;
using test::ProgramResult;
using test::run_program;
using test::operator+;

TEST_F(GenerateCommand, BadFlags) {
  const auto with = [&](const std::vector<std::string>& more) { return quick() + more; };
  expect_error(with({"--stepz", "3"}), 2, {"--stepz", "did you mean", "--steps"});
  expect_error(with({"--steps", "0"}), 2, {"--steps", "from 1 to 10000", "0"});
  expect_error(with({"--steps", "ten"}), 2, {"--steps", "ten"});
  expect_error(with({"--guidance", "nan"}), 2, {"--guidance", "a number"});
  expect_error(with({"--flow-shift", "-1"}), 2, {"--flow-shift"});
  expect_error(with({"--num-frames", "16"}), 2, {"16", "13", "17"});
  expect_error(with({"--num-frames", "0"}), 2, {"--num-frames"});
  expect_error(with({"-W", "0"}), 2, {"--width"});
  expect_error(with({"-W", "-64"}), 2, {"--width", "-64"});
  expect_error(with({"--resolution", "256px"}), 2, {"--resolution"});
  expect_error(with({"--crf", "52"}), 2, {"--crf", "0 to 51"});
  expect_error(with({"--fps", "0"}), 2, {"--fps"});
  expect_error(with({"--motion-score", "lots"}), 2, {"--motion-score", "lots"});
  expect_error(with({"--output-size", "big"}), 2, {"--output-size", "big"});
  expect_error(with({"--dtype", "int4"}), 2, {"int4"});
  expect_error(with({"--device", "tpu"}), 2, {"--device", "tpu"});
  expect_error(with({"--seed", "-1"}), 2, {"seed"});
  expect_error(with({"-o", folder_.path() / "out.avi"}), 2, {".mp4", ".avi"});
  expect_error(with({"-o", folder_.path() / "out.png"}), 2, {".mp4", ".png"});
  expect_error(with({"--config", "1024px"}), 2, {"1024px", "256px", "768px"});
  expect_error({"generate"}, 2, {"--prompt"});
  expect_error({"generat"}, 2, {"generat", "generate"});
}

// Before anything runs: what no encoder or picture can hold, and what the codec that was asked for cannot.
TEST_F(GenerateCommand, SizesThatCannotBeWritten) {
  const auto with = [&](const std::vector<std::string>& more) { return quick() + more; };
  expect_error(with({"-W", "17000"}), 2, {"--width", "16384", "17000"});
  expect_error(with({"-W", "100000", "-H", "100000", "--dry-run"}), 2, {"--width", "16384"});
  expect_error(with({"-W", "99999999999999999999"}), 2, {"--width", "16384"});
  expect_error(with({"--output-size", "20000x64"}), 2, {"--output-size", "16384", "20000x64"});
  expect_error(with({"--image-size", "64x20000"}), 2, {"--image-size", "16384"});
  expect_error(with({"--codec", "h265", "--output-size", "8x64"}), 2, {"h265", "8x64", "at least 16"});
  expect_error(with({"--codec", "h265", "--output-size", "8192x16"}), 2, {"h265", "8192x16", "4096"});
  EXPECT_EQ(run_program(with({"--codec", "h265", "--output-size", "16x16"})).exit_code, 0);
  EXPECT_EQ(run_program(with({"--output-size", "2x2", "--overwrite"})).exit_code, 0);
  const fs::path config =
      folder_.write("large.json", R"({"_base_": ")" + (test::checkpoint_dir() / "tiny.json").string() +
                                      R"(", "sampling_option": {"width": 20000, "height": 64}})");
  expect_error({"generate", "-p", "x", "--model-dir", test::checkpoint_dir(), "--config", config}, 2,
               {"sampling_option.width", "16384"});
}

// What leads to an error is of no use to somebody who mistyped a flag.
TEST_F(GenerateCommand, AUsageErrorIsAloneOnStderr) {
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"generate"},
                                             {"generate", "-p", "x", "-W", "64", "-H", "64", "--num-frames", "6"},
                                             {"plan", "--num-frames", "6"},
                                             {"bench", "-W", "0"}}) {
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_TRUE(result.err.starts_with("opensora: error: ")) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

TEST_F(GenerateCommand, SizeWithoutAPartner) {
  const std::vector<std::string> base = {"generate", "-p", "x", "-o", folder_.path() / "x.mp4"};
  expect_error(base + std::vector<std::string>{"-W", "64"}, 2, {"--width", "--height"});
  expect_error(base + std::vector<std::string>{"--resolution", "256px"}, 2, {"aspect ratio"});
  expect_error(base + std::vector<std::string>{"--resolution", "256p", "--aspect-ratio", "16:9"}, 2, {"256p", "256px"});
  expect_error(base + std::vector<std::string>{"--resolution", "256px", "--aspect-ratio", "16:10"}, 2,
               {"16:10", "16:9"});
}

TEST_F(GenerateCommand, BadPrompts) {
  std::vector<std::string> arguments = quick();
  arguments[6] = "caf\xC3";
  expect_error(arguments, 2, {"UTF-8", "prompt"});

  arguments[6] = "";
  EXPECT_EQ(run_program(arguments).exit_code, 0) << "an empty prompt is legal";

  std::string longest;
  while (longest.size() < 10000) longest += "word" + std::to_string(longest.size()) + " ";
  arguments[6] = longest;
  const ProgramResult result = run_program(arguments + std::vector<std::string>{"--overwrite"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("CLIP reads 77 of"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("T5 reads 64 of"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("cut before \""), std::string::npos) << result.err;
}

TEST_F(GenerateCommand, BadOutputs) {
  ASSERT_EQ(run_program(quick()).exit_code, 0);
  expect_error(quick(), 7, {"out.mp4", "exists", "--overwrite"});
  expect_error(quick("missing/out.mp4"), 7, {"missing"});
  fs::create_directory(folder_.path() / "folder.mp4");
  expect_error(quick("folder.mp4"), 7, {"folder.mp4"});
  expect_error(quick("new.mp4") + std::vector<std::string>{"--save-tensors", folder_.path() / "missing/t.safetensors"},
               7, {"missing"});
  // As root nothing is unwritable, but no one can create a file there.
  expect_error(quick() + std::vector<std::string>{"-o", "/proc/out.mp4"}, 7, {"/proc"});
}

TEST_F(GenerateCommand, MissingModels) {
  expect_error(quick_with(folder_.path() / "nowhere"), 4, {"nowhere", "--model-dir"});
  const fs::path copy = copy_of_checkpoint();
  for (const char* file :
       {"Open_Sora_v2.safetensors", "hunyuan_vae.safetensors", "google/t5-v1_1-xxl/spiece.model",
        "google/t5-v1_1-xxl/model-00002-of-00002.safetensors", "openai/clip-vit-large-patch14/config.json",
        "openai/clip-vit-large-patch14/merges.txt", "openai/clip-vit-large-patch14/model.safetensors"}) {
    fs::rename(copy / file, copy / "aside");
    expect_error(quick_with(copy), 4, {fs::path(file).filename()});
    fs::rename(copy / "aside", copy / file);
  }
  EXPECT_EQ(run_program(quick_with(copy)).exit_code, 0);
}

TEST_F(GenerateCommand, DamagedModels) {
  const fs::path copy = copy_of_checkpoint();
  for (const char* file :
       {"Open_Sora_v2.safetensors", "hunyuan_vae.safetensors", "google/t5-v1_1-xxl/model-00001-of-00002.safetensors",
        "openai/clip-vit-large-patch14/model.safetensors"}) {
    fs::copy_file(copy / file, copy / "aside");
    fs::resize_file(copy / file, fs::file_size(copy / file) / 2);
    expect_error(quick_with(copy), 4, {fs::path(file).filename()});
    std::ofstream(copy / file) << "this is no safetensors file";
    expect_error(quick_with(copy), 4, {fs::path(file).filename()});
    fs::remove(copy / file);
    fs::rename(copy / "aside", copy / file);
  }
}

TEST_F(GenerateCommand, TokenizersOfAnotherModel) {
  const fs::path copy = copy_of_checkpoint(), demo = fs::path(OPENSORA_CONFIGS) / "demo";
  const auto replace = [&](const std::string& file) {
    fs::copy_file(demo / file, copy / file, fs::copy_options::overwrite_existing);
  };
  const fs::path t5 = "google/t5-v1_1-xxl/spiece.model";
  replace(t5);
  expect_error(quick_with(copy), 4, {"spiece.model", "768", "32128"});
  fs::copy_file(test::checkpoint_dir() / t5, copy / t5, fs::copy_options::overwrite_existing);

  replace("openai/clip-vit-large-patch14/vocab.json");
  expect_error(quick_with(copy), 4, {"merges.txt"});
  replace("openai/clip-vit-large-patch14/merges.txt");
  expect_error(quick_with(copy), 4, {"vocab.json", "1024", "49408"});
}

TEST_F(GenerateCommand, BadReferences) {
  const auto with = [&](const std::vector<std::string>& more) { return quick() + more; };
  const fs::path picture = test::reference_dir() / "cases/reference.png";
  const fs::path text = folder_.write("text.png", "this is no picture"), empty = folder_.write("empty.mp4", "");
  const std::string bytes = test::read_file(picture);
  const fs::path cut = folder_.write("cut.png", bytes.substr(0, bytes.size() / 2));

  expect_error(with({"--image", "missing.png"}), 9, {"missing.png"});
  expect_error(with({"--image", text}), 9, {"text.png"});
  expect_error(with({"--image", cut}), 9, {"cut.png"});
  expect_error(with({"--image", folder_.path()}), 9, {folder_.path()});
  expect_error(with({"--image", "http://localhost/a.png"}), 9, {"http://localhost/a.png"});
  expect_error(with({"--video", empty, "--num-frames", "41"}), 9, {"empty.mp4"});
  expect_error(with({"--video", picture, "--num-frames", "41"}), 9, {"reference.png", "33"});
}

TEST_F(GenerateCommand, ContradictingConditions) {
  const auto with = [&](const std::vector<std::string>& more) { return quick() + more; };
  const fs::path picture = test::reference_dir() / "cases/reference.png";
  expect_error(with({"--cond-type", "i2v_head"}), 2, {"i2v_head", "--image"});
  expect_error(with({"--cond-type", "v2v_head", "--image", picture}), 2, {"v2v_head", "--video"});
  expect_error(with({"--cond-type", "i2v_loop", "--image", picture}), 2, {"i2v_loop", "two images"});
  expect_error(with({"--cond-type", "t2v", "--image", picture}), 2, {"t2v", "no reference"});
  expect_error(with({"--cond-type", "v2v_head_half"}), 2, {"v2v_head_half"});
  expect_error(with({"--video", "a.mp4", "--image", picture}), 2, {"--video", "--image"});
  expect_error(with({"--image", picture, "--image", picture, "--end-image", picture}), 2, {"at most two"});
  expect_error(with({"--image", picture, "--num-frames", "1", "-o", folder_.path() / "out.png"}), 2, {"--num-frames"});
  expect_error(with({"--t2i2v"}), 2, {"--t2i2v", "img_flux"});
  expect_error(with({"--image-only"}), 2, {"--image-only"});
  const std::vector<std::string> dc_ae = {"--config", test::checkpoint_dir() / "tiny_high_compression.json"};
  expect_error(with(dc_ae + std::vector<std::string>{"--video", picture, "--num-frames", "64"}), 2, {"v2v_head"});
  expect_error(with(dc_ae + std::vector<std::string>{"--num-frames", "3"}), 2, {"--num-frames", "3"});
  expect_error(with(dc_ae + std::vector<std::string>{"--vae", test::checkpoint_dir() / "hunyuan_vae.safetensors"}), 4,
               {"hunyuan_vae", "HunyuanVAE", "a DC-AE"});
}

TEST_F(GenerateCommand, AnAbsentGpu) {
  if (run_program({"--version"}).out.find("GPU(s) found") != std::string::npos) GTEST_SKIP() << "there is a GPU";
  expect_error(quick() + std::vector<std::string>{"--device", "cuda"}, 5, {"cuda", "--device cpu"});
  expect_error(quick() + std::vector<std::string>{"--device", "cuda:7"}, 5, {"cuda:7"});
}

}  // namespace
}  // namespace opensora
