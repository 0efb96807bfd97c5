// The program as its users run it: results on stdout, one line for each mistake, and its exit code.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/program.h"
#include "support/read_video.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::ProgramOptions;
using test::ProgramResult;
using test::run_program;

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class GenerateCommand : public ::testing::Test {
 protected:
  // A quick run on the reference checkpoint: five frames of 32x32 in one step.
  std::vector<std::string> quick(const std::string& output = "out.mp4") const {
    return {"generate",
            "--model-dir",
            test::checkpoint_dir(),
            "--config",
            test::checkpoint_dir() / "tiny.json",
            "-p",
            "rain",
            "-W",
            "32",
            "-H",
            "32",
            "--num-frames",
            "5",
            "--steps",
            "1",
            "-s",
            "1",
            "--device",
            "cpu",
            "-o",
            folder_.path() / output};
  }

  // Runs and expects failure: this exit code, one error line that holds all of `words`, and no file left behind.
  void expect_error(const std::vector<std::string>& arguments, int exit_code, const std::vector<std::string>& words,
                    const ProgramOptions& options = {}) const {
    const std::vector<fs::path> before = files();
    const ProgramResult result = run_program(arguments, options);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    const std::string mark = "opensora: error: ";
    const size_t at = result.err.find(mark);
    ASSERT_NE(at, std::string::npos) << result.err;
    const std::string message = result.err.substr(at + mark.size());
    EXPECT_EQ(message.find(mark), std::string::npos) << "two errors: " << result.err;
    for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << word << " in " << message;
    EXPECT_EQ(files(), before) << "a failed run left something behind";
  }

  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path())) found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  }

  // A copy of the reference checkpoint that a test may damage.
  fs::path copy_of_checkpoint() const {
    const fs::path copy = folder_.path() / "ckpts";
    fs::copy(test::checkpoint_dir(), copy, fs::copy_options::recursive);
    return copy;
  }
  std::vector<std::string> quick_with(const fs::path& model_dir) const {
    std::vector<std::string> arguments = quick();
    arguments[2] = model_dir;
    return arguments;
  }

  test::TemporaryFolder folder_;
};

TEST_F(GenerateCommand, PrintsThePathOfTheVideo) {
  const ProgramResult result = run_program(quick());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, (folder_.path() / "out.mp4").string() + "\n");
  const test::DecodedVideo video = test::read_video(folder_.path() / "out.mp4");
  EXPECT_EQ(video.frames.size(), 5U);
  EXPECT_EQ(video.width, 32);
  EXPECT_EQ(video.codec, "h264");
  EXPECT_EQ(video.fps, 24);
}

TEST_F(GenerateCommand, JsonHoldsTheResultAndStderrTheLog) {
  const ProgramResult result = run_program(quick() + std::vector<std::string>{"--json", "--steps", "3"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["seed"], 1);
  EXPECT_EQ(json["width"], 32);
  EXPECT_EQ(json["height"], 32);
  EXPECT_EQ(json["frames"], 5);
  EXPECT_EQ(json["steps"], 3);
  EXPECT_EQ(json["forwards"], 6);
  EXPECT_EQ(json["dtype"], "fp32");
  EXPECT_EQ(json["prompt"], "rain. 24 FPS. 4 motion score.");
  for (const char* stage : {"text", "denoise", "decode", "write", "total"})
    EXPECT_GT(json["seconds"][stage], 0) << stage;
  EXPECT_GT(json["peak_memory_bytes"], 1 << 20);
  EXPECT_NE(result.err.find("seed 1"), std::string::npos);
}

TEST_F(GenerateCommand, TheSameSeedGivesTheSameBytes) {
  ASSERT_EQ(run_program(quick("a.mp4")).exit_code, 0);
  ASSERT_EQ(run_program(quick("b.mp4")).exit_code, 0);
  EXPECT_EQ(test::read_file(folder_.path() / "a.mp4"), test::read_file(folder_.path() / "b.mp4"));
}

TEST_F(GenerateCommand, ReproducesTheOfficialPipeline) {
  const test::Case reference("pipeline_t2v");
  const fs::path tensors = folder_.path() / "t.safetensors";
  const ProgramResult result = run_program({"generate",
                                            "--model-dir",
                                            test::checkpoint_dir(),
                                            "--config",
                                            test::checkpoint_dir() / "tiny.json",
                                            "-p",
                                            "raining, sea",
                                            "-W",
                                            "96",
                                            "-H",
                                            "64",
                                            "--num-frames",
                                            "17",
                                            "--steps",
                                            "14",
                                            "-s",
                                            "42",
                                            "--device",
                                            "cpu",
                                            "--save-tensors",
                                            tensors,
                                            "-o",
                                            folder_.path() / "t.mp4"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const io::SafetensorsFile saved(tensors);
  EXPECT_TRUE(at::equal(saved.tensor("noise"), reference.raw("noise")));
  EXPECT_TRUE(test::close(saved.tensor("latent"), reference["latent"], 2e-3, 0));
  EXPECT_TRUE(test::close(saved.tensor("video"), reference["video"], 5e-3, 0));
  EXPECT_EQ(saved.tensor("timesteps").numel(), 15);
}

TEST_F(GenerateCommand, OneFrameIsAPicture) {
  const ProgramResult result = run_program(quick("out.png") + std::vector<std::string>{"--num-frames", "1"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(test::read_video(folder_.path() / "out.png").width, 32);
}

TEST_F(GenerateCommand, TheDefaultNameIsThePromptAndTheSeed) {
  std::vector<std::string> arguments = quick();
  arguments.resize(arguments.size() - 2);  // without -o
  arguments = arguments + std::vector<std::string>{"--prompt", "A Red circle, moving"};
  arguments.erase(std::find(arguments.begin(), arguments.end(), "-p"),
                  std::find(arguments.begin(), arguments.end(), "-p") + 2);
  ProgramOptions options;
  options.folder = folder_.path();
  const ProgramResult result = run_program(arguments, options);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "a-red-circle-moving-1.mp4\n");
  EXPECT_TRUE(fs::exists(folder_.path() / "a-red-circle-moving-1.mp4"));
}

TEST_F(GenerateCommand, OddSizesAreRoundedUpWithALogLine) {
  const ProgramResult result = run_program(quick() + std::vector<std::string>{"-W", "33", "-H", "17", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["width"], 48);
  EXPECT_NE(result.err.find("33x17 is rounded up to 48x32"), std::string::npos) << result.err;
}

TEST_F(GenerateCommand, EveryDtypeRuns) {
  for (const char* dtype : {"fp32", "bf16", "fp16"}) {
    const ProgramResult result =
        run_program(quick() + std::vector<std::string>{"--dtype", dtype, "--json", "--overwrite"});
    ASSERT_EQ(result.exit_code, 0) << dtype << ": " << result.err;
    EXPECT_EQ(nlohmann::json::parse(result.out)["dtype"], dtype);
  }
}

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

TEST_F(GenerateCommand, TheSizesOfTheConfigurationsOwnResolution) {
  const ProgramResult own = run_program({"generate", "--config", "768px", "--aspect-ratio", "list"});
  EXPECT_EQ(own.exit_code, 0) << own.err;
  EXPECT_EQ(std::count(own.out.begin(), own.out.end(), '\n'), 16) << own.out;
  EXPECT_NE(own.out.find("768px       16:9          1024x576 "), std::string::npos) << own.out;
  const ProgramResult other =
      run_program({"generate", "--config", "768px", "--resolution", "256px", "--aspect-ratio", "list"});
  EXPECT_EQ(other.out.find("768px"), std::string::npos);
  const ProgramResult all = run_program({"generate", "--aspect-ratio", "list"});
  EXPECT_GT(std::count(all.out.begin(), all.out.end(), '\n'), 100) << "the demo has no resolution of its own";
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

TEST_F(GenerateCommand, TheImageOfTextToImageToVideoIsKept) {
  std::vector<std::string> arguments =
      quick() + std::vector<std::string>{"--config", test::checkpoint_dir() / "tiny_t2i2v.json", "--image-size",
                                         "64x48", "--json"};
  const ProgramResult result = run_program(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["image"], (folder_.path() / "out.png").string());
  EXPECT_EQ(json["image_forwards"], 1);
  EXPECT_EQ(test::read_video(folder_.path() / "out.png").height, 48);
  // Without it, or with an image of one's own, FLUX is not asked.
  const ProgramResult without = run_program(arguments + std::vector<std::string>{"--no-t2i2v", "--overwrite"});
  ASSERT_EQ(without.exit_code, 0) << without.err;
  EXPECT_EQ(nlohmann::json::parse(without.out)["image_forwards"], 0);
}

// No position of the latent depends on the draw but those that the reference fills, and the same seed draws the same.
TEST_F(GenerateCommand, ThePosteriorIsDrawnFromTheSeed) {
  const fs::path picture = test::reference_dir() / "cases/reference.png";
  const auto latent = [&](const std::vector<std::string>& more) {
    const fs::path tensors = folder_.path() / "t.safetensors";
    const ProgramResult result = run_program(
        quick() + std::vector<std::string>{"--image", picture, "--save-tensors", tensors, "--overwrite"} + more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return io::SafetensorsFile(tensors).tensor("latent").clone();
  };
  const at::Tensor mean = latent({}), drawn = latent({"--sample-posterior"});
  EXPECT_FALSE(at::allclose(mean, drawn));
  EXPECT_TRUE(at::equal(drawn, latent({"--sample-posterior"})));
}

TEST_F(GenerateCommand, ListsItsSizes) {
  const ProgramResult result =
      run_program({"generate", "--config", "768px", "--model-dir", test::checkpoint_dir(), "--aspect-ratio", "list"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.out.find("768px       16:9          1024x576   76032"), std::string::npos) << result.out;
}

TEST_F(GenerateCommand, AnAbsentGpu) {
  if (run_program({"--version"}).out.find("GPU(s) found") != std::string::npos) GTEST_SKIP() << "there is a GPU";
  expect_error(quick() + std::vector<std::string>{"--device", "cuda"}, 5, {"cuda", "--device cpu"});
  expect_error(quick() + std::vector<std::string>{"--device", "cuda:7"}, 5, {"cuda:7"});
}

TEST_F(GenerateCommand, OutOfMemory) {
  ProgramOptions options;
  options.max_address_space = 1000L << 20;  // enough to load and to denoise
  std::vector<std::string> arguments =
      quick() +
      std::vector<std::string>{"-W", "320", "-H", "320", "--num-frames", "17", "--no-vae-tiling", "--threads", "1"};
  const ProgramResult result = run_program(arguments, options);
  EXPECT_EQ(result.exit_code, 6);
  for (const char* words : {"out of memory", "decode", "MiB more", "--vae-tiling", "the latent is kept"}) {
    EXPECT_NE(result.err.find(words), std::string::npos) << words << " in " << result.err;
  }
  EXPECT_EQ(files(), std::vector<fs::path>{folder_.path() / "out.latent.safetensors"});  // a sampling is not lost
}

TEST_F(GenerateCommand, NotANumberStopsTheRun) {
  const fs::path copy = copy_of_checkpoint();
  // The last layer's bias, in bfloat16: 0x7FC0 is NaN.
  const io::SafetensorsFile file(copy / "Open_Sora_v2.safetensors");
  const auto& tensor = file.tensors().at("final_layer.linear.bias");
  uint64_t header = 0;
  std::fstream stream(copy / "Open_Sora_v2.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  stream.read(reinterpret_cast<char*>(&header), sizeof header);
  stream.seekp(static_cast<std::streamoff>(8 + header + tensor.begin));
  stream.write("\xC0\x7F", 2);
  stream.close();
  expect_error(quick_with(copy), 10, {"not finite", "step 1"});
}

TEST_F(GenerateCommand, AnInterruptLeavesNothing) {
  const test::TemporaryFolder elsewhere;
  const fs::path events = elsewhere.path() / "events.jsonl";
  ProgramOptions options;
  options.meanwhile = [&](pid_t program) {
    EXPECT_TRUE(test::wait_for_event(program, events, "step"));
    ::kill(program, SIGINT);
  };
  expect_error(quick() + std::vector<std::string>{"--steps", "5000", "--events", events}, 130, {"signal 2"}, options);
}

TEST(Program, VersionAndHelp) {
  const ProgramResult version = run_program({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  for (const char* word : {"opensora 0.", "LibTorch 2.11.0", "FFmpeg", "SentencePiece", "CUDA"}) {
    EXPECT_NE(version.out.find(word), std::string::npos) << word;
  }
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--help"}, {"generate", "--help"}, {"tokenize", "--help"}}) {
    const ProgramResult help = run_program(arguments);
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_NE(help.out.find("Example"), std::string::npos);
    EXPECT_EQ(help.err, "");
  }
}

TEST(Program, TokenizeGivesTheOfficialIds) {
  const std::vector<std::string> model = {"--model-dir",     test::checkpoint_dir(),
                                          "--config",        test::checkpoint_dir() / "tiny.json",
                                          "--t5-max-length", "512"};
  const nlohmann::json cases = test::read_json(test::reference_dir() / "cases/tokens.json");
  for (size_t i = 0; i < cases.size(); i += 7) {
    if (cases[i]["mojibake"]) continue;
    const ProgramResult result = run_program(std::vector<std::string>{"tokenize", cases[i]["text"], "--json"} + model);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const nlohmann::json json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json["clip"]["ids"], cases[i]["clip"]) << cases[i]["text"];
    // Of T5 the reference takes names of special tokens for plain text: see T5TokenizerTest.MatchesTheReferenceIds.
    const bool has_special = cases[i]["text"].get_ref<const std::string&>().find("</s>") != std::string::npos;
    if (has_special) continue;
    EXPECT_EQ(json["t5"]["ids"], cases[i]["t5"]) << cases[i]["text"];
  }
  const ProgramResult text = run_program(std::vector<std::string>{"tokenize", "raining, sea"} + model);
  EXPECT_NE(text.out.find("clip: 5 of 5 tokens"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("t5: 5 of 5 tokens"), std::string::npos) << text.out;
}

}  // namespace
}  // namespace opensora
