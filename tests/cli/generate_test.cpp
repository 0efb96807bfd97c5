// The program as its users run it: results on stdout, and its exit code.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/generate_fixture.h"
#include "support/read_video.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::GenerateCommand;
using test::ProgramOptions;
using test::ProgramResult;
using test::run_program;
using test::operator+;

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
  for (const char* stage : {"text", "denoise", "decode", "write", "total"}) {
    EXPECT_GT(json["seconds"][stage], 0) << stage;
  }
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
  for (const char* word : {"opensora 0.", "LibTorch 2.11.0", "FFmpeg", "SentencePiece", "CUDA", "plug-in: "}) {
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
