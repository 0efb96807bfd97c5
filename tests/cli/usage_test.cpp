// Command lines that are refused: every flag of every command, and what is said instead of a wrong guess.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <string>
#include <vector>

#include "cli/app.h"
#include "cli/option_table.h"
#include "cli/parameter_options.h"
#include "support/contains.h"
#include "support/refusal.h"

namespace opensora {
namespace {

using test::contains;
using test::refusal_of;

// Each option and argument that takes a value, of all commands.
struct ValueOption {
  std::string command;
  const CLI::Option* option;
  int before = 0;  // of an argument: those that come first
  std::string name() const { return option->get_name(); }
  bool positional() const { return !option->nonpositional(); }
};

std::vector<ValueOption> value_options(const CLI::App& app) {
  std::vector<ValueOption> options;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    int arguments = 0;
    for (const CLI::Option* option : command->get_options()) {
      if (option->get_items_expected_max() == 0) continue;
      options.push_back({command->get_name(), option, arguments});
      if (!option->nonpositional()) ++arguments;
    }
  }
  return options;
}

std::string refusal_with(const ValueOption& option, const std::string& value) {
  if (!option.positional()) return refusal_of({option.command, option.name(), value});
  std::vector<std::string> arguments = {option.command};
  arguments.insert(arguments.end(), option.before, "x");
  arguments.push_back(value);
  return refusal_of(arguments);
}

class EveryOption : public ::testing::Test {
 protected:
  EveryOption() {
    cli::set_up(app_);
    options_ = value_options(app_);
  }
  CLI::App app_;
  std::vector<ValueOption> options_;
};

TEST_F(EveryOption, RefusesAnEmptyValueUnlessItIsAPrompt) {
  EXPECT_GT(options_.size(), 150U);
  size_t prompts = 0;
  for (const ValueOption& option : options_) {
    SCOPED_TRACE(option.command + " " + option.name());
    if (cli::may_be_empty(*option.option)) {
      EXPECT_FALSE(refusal_with(option, "").starts_with(option.name() + ": expected"));
      ++prompts;
      continue;
    }
    for (const char* value : {"", " ", "\t "}) {
      EXPECT_TRUE(refusal_with(option, value).starts_with(option.name() + ": expected")) << refusal_with(option, value);
    }
    if (option.positional()) continue;
    EXPECT_TRUE(refusal_of({option.command, option.name() + "="}).starts_with(option.name() + ": expected"));
    EXPECT_TRUE(refusal_of({option.command, option.name()}).starts_with(option.name() + ": expected a value"));
  }
  // -p and -n of generate, plan, calibrate and encode-text; -p of random-model; TEXT of tokenize
  EXPECT_EQ(prompts, 10U);
}

TEST_F(EveryOption, ThatTakesANumberRefusesAllElseInItsOwnWords) {
  size_t numbers = 0;
  for (const ValueOption& option : options_) {
    const std::string type = option.option->get_type_name();
    const bool is_whole = type.starts_with("INT"), is_real = type.starts_with("FLOAT"), is_rate = type == "RATE";
    EXPECT_FALSE(type.starts_with("UINT")) << option.name();  // CLI11's own conversions take hexadecimal and more
    if (!is_whole && !is_real && !is_rate) continue;
    ++numbers;
    SCOPED_TRACE(option.command + " " + option.name());
    std::vector<std::string> values = {"x",
                                       "99999999999999999999999",
                                       "-99999999999999999999999",
                                       "0x10",
                                       "+5",
                                       "5 ",
                                       " 5",
                                       "1e999",
                                       "nan",
                                       "inf",
                                       "-inf",
                                       "1'000",
                                       "\u0665",
                                       "--5",
                                       "5,5",
                                       "0b1"};
    if (is_whole) values.insert(values.end(), {"1e3", "4.0", "10,30,", "1_000"});
    for (const std::string& value : values) {
      if (value == "5,5" && option.name() == "--seed") continue;  // a list of seeds
      const std::string refusal = refusal_with(option, value);
      EXPECT_TRUE(refusal.starts_with(option.name() + ": expected ")) << value << ": " << refusal;
      EXPECT_TRUE(contains(refusal, "found \"" + value + "\"")) << refusal;
      EXPECT_TRUE(contains(refusal, " to ")) << "no range: " << refusal;
    }
  }
  EXPECT_GT(numbers, 40U);
}

TEST(Usage, NumbersAtTheEndsOfTheirRanges) {
  const auto generate = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "generate");
    return refusal_of(arguments);
  };
  for (const auto& [flag, good, bad] : std::vector<std::tuple<std::string, std::string, std::string>>{
           {"--steps", "10000", "10001"},
           {"--steps", "1", "0"},
           {"--steps", "1", "30000000000"},
           {"--num-frames", "100000", "100001"},
           {"--num-frames", "1", "-1"},
           {"--crf", "0", "-1"},
           {"--crf", "51", "52"},
           {"--threads", "1024", "1025"},
           {"--guidance", "-1000", "1000.5"},
           {"--guidance-img", "1e3", "1e4"},
           {"--flow-shift", "0.001", "0"},
           {"--fps", "1000", "1000.01"},
           {"--fps", "1", "0.99"},
           {"--fps", "1001/1001", "1/2"},
           {"--seed", "18446744073709551615", "18446744073709551616"},
           {"--timeout", "0.5", "-1"},
           {"--num-samples", "1000000", "0"},
           {"--preview-every", "0", "-3"},
           {"--shard", "8/8", "9/8"},
           {"--shard", "1/1", "0/1"},
           {"--shard", "2/8", "2/8 "},
           {"--shard", "2/8", "0x2/8"},
           {"--output-size", "16384x1", "16385x1"},
           {"--output-size", "1x16384", "1x100000000000000000000"},
           {"--output-size", "64x64", "64x"},
           {"--output-size", "64x64", "64X64x"},
           {"--output-size", "64x64", "+64x64"},
           {"--image-size", "64x64", "0x64"},
           {"--max-memory", "1.5GiB", "-1GiB"},
           {"--max-memory", "64 MiB", "infGiB"},
           {"--max-memory", "1", "0"},
           {"--max-memory", "2TB", "0x10"},
           {"--max-memory", "1e9", "1e999"},
           {"--max-memory", "7GB", "7,5GB"},
           {"--motion-score", "none", "nan"},
           {"--motion-score", "4.5", "0x4"},
       }) {
    EXPECT_EQ(generate({flag, good}), "") << flag << " " << good;
    EXPECT_TRUE(generate({flag, bad}).starts_with(flag + ": expected ")) << flag << " " << bad << generate({flag, bad});
  }
  EXPECT_EQ(generate({"-W", "16384", "-H", "16384"}), "");
  EXPECT_TRUE(
      generate({"-W", "99999999999999999999", "-H", "64"}).starts_with("--width: expected a whole number from 1"));
}

TEST(Usage, ExpectationsAreSaid) {
  EXPECT_EQ(refusal_of({"generate", "--guidance", "7,5"}),
            "--guidance: expected a number from -1000 to 1000, such as 7.5, found \"7,5\"; use a point, 7.5");
  EXPECT_EQ(refusal_of({"generate", "--num-frames", "4.0"}),
            "--num-frames: expected a whole number from 1 to 100000, found \"4.0\"");
  EXPECT_EQ(refusal_of({"generate", "--steps", "10,30"}),
            "--steps: expected a whole number from 1 to 10000, found \"10,30\"; for several settings give a "
            "--prompts-file with a row for each");
  EXPECT_EQ(refusal_of({"bench", "--threads", "1,2"}),
            "--threads: expected a whole number from 1 to 1024, found \"1,2\"");
  EXPECT_EQ(refusal_of({"generate", "--fps", "fast"}),
            "--fps: expected frames a second from 1 to 1000, such as 24, 23.976 or 30000/1001, found \"fast\"");
  EXPECT_EQ(refusal_of({"generate", "--codec", "vp9"}), "--codec: expected h264, h265 or ffv1, found \"vp9\"");
  EXPECT_EQ(refusal_of({"selftest", "--dtype", "fp32,fp8"}), "--dtype: expected fp32, bf16 or fp16, found \"fp8\"");
  EXPECT_EQ(refusal_of({"generate", "--overwrite=maybe"}),
            "--overwrite: is a switch and takes no value but true or false");
  EXPECT_EQ(refusal_of({"generate", "--json="}), "--json: is a switch and takes no value");
  EXPECT_EQ(refusal_of({"generate", "--prompt="}), "");
  EXPECT_EQ(refusal_of({"generate", "--prompt", "--video=", "--negative-prompt="}), "") << "the prompt is --video=";
}

// An argument in front of the rest of a command line, and all that must be said of it; "" where no guess is right.
struct Guess {
  std::string argument, answer;
};

std::vector<Guess> guesses() {
  return {{"--out", "use -o"},
          {"--output-file", "use -o"},
          {"--outfile", "use -o"},
          {"--ouput", "did you mean --output?"},
          {"--frames", "use --num-frames"},
          {"--length", "use --num-frames"},
          {"--video-frames", "use --num-frames"},
          {"--video_length", "use --num-frames"},
          {"--num_frames", "use --num-frames"},
          {"--num-frame", "did you mean --num-frames?"},
          {"--NUM-FRAMES", "use --num-frames"},
          {"--model", "use --model-dir"},
          {"-m", "use --model-dir"},
          {"--ckpt", "use --model-dir"},
          {"--checkpoint", "use --model-dir"},
          {"--ckpt_dir", "use --model-dir"},
          {"--force", "use --overwrite"},
          {"-y", "use --overwrite"},
          {"--yes", "use --overwrite"},
          {"--size", "use -W and -H, or --resolution"},
          {"--low-vram", "use --offload block"},
          {"--lowvram", "use --offload block"},
          {"--medvram", "use --offload block"},
          {"--cpu-offload", "use --offload block"},
          {"--enable_model_cpu_offload", "use --offload block"},
          {"--vae-on-cpu", "use --offload block"},
          {"--guidance-scale", "use --guidance"},
          {"--guidance_scale", "use --guidance"},
          {"--cfg-scale", "use --guidance"},
          {"--cfg", "use --guidance"},
          {"--guidence", "did you mean --guidance?"},
          {"--img-cfg-scale", "use --guidance-img"},
          {"--num-inference-steps", "use --steps"},
          {"--num_inference_steps", "use --steps"},
          {"--sample-steps", "use --steps"},
          {"--stpes", "did you mean --steps?"},
          {"--step", "did you mean --steps?"},
          {"-steps", "use --steps"},
          {"--sampling-method", "use --sampler"},
          {"--scheduler", "see --flow-shift and --sampler"},
          {"--lora", "LoRA is not supported yet"},
          {"--lora-dir", "LoRA is not supported yet"},
          {"--lora_model_dir", "LoRA is not supported yet"},
          {"--quantize", "weights are quantized in their file"},
          {"--type", "use --dtype"},
          {"--fp16", "use --dtype fp16"},
          {"--save-dir", "use --output-dir"},
          {"--save_dir", "use --output-dir"},
          {"--batch-size", "use --num-samples"},
          {"-t", "use --threads"},
          {"--negative_prompt", "use --negative-prompt"},
          {"--init-img", "use -i"},
          {"--init_image", "use -i"},
          {"--ref", "use -i"},
          {"--init-video", "use --video"},
          {"-c:v", "use --codec"},
          {"-vcodec", "use --codec"},
          {"-r", "use --fps"},
          {"--frame-rate", "use --fps"},
          {"--fps-save", "use --fps"},
          {"-pix_fmt", "use --pix-fmt"},
          {"-crf", "use --crf"},
          {"--ratio", "use --aspect-ratio"},
          {"--aspect_ratio", "use --aspect-ratio"},
          {"--refine-prompt", "prompts are used as they are"},
          {"--help-all", "use --help"},
          {"--wdith", "did you mean --width?"},
          {"--tilling", ""},
          {"--audio", ""},
          {"--upscale", ""},
          {"--seamless", ""},
          {"--loop", ""},
          {"--teacache", "use --cache pairs"},
          {"--port", ""},
          {"--hf-token", ""},
          {"--xformers", ""},
          {"--compile", ""},
          {"--aes", ""},
          {"-z", ""},
          {"-x", ""}};
}

TEST(Usage, OptionsOfOtherProgramsAreAnsweredAndNothingIsGuessedWrong) {
  for (const auto& [argument, answer] : guesses()) {
    SCOPED_TRACE(argument);
    const std::string refusal = refusal_of({"generate", "-p", "a", argument, "5"});
    EXPECT_TRUE(refusal.starts_with("unknown option " + argument)) << refusal;
    if (answer.empty()) {
      EXPECT_EQ(refusal, "unknown option " + argument + " (see opensora generate --help)");
    } else {
      EXPECT_TRUE(contains(refusal, answer)) << refusal;
    }
    if (argument.starts_with("--")) EXPECT_EQ(refusal_of({"generate", "-p", "a", argument + "=5"}), refusal);
  }
}

// Only what the command has is suggested.
TEST(Usage, AnswersFitTheCommand) {
  EXPECT_TRUE(contains(refusal_of({"encode-text", "-p", "a", "--out", "x"}), "use --output-dir"));
  EXPECT_TRUE(contains(refusal_of({"reconstruct", "a.png", "--out", "x"}), "unknown option --out: use -o"));
  EXPECT_EQ(refusal_of({"inspect", "a.mp4", "--out", "x"}), "unknown option --out (see opensora inspect --help)");
  EXPECT_EQ(refusal_of({"doctor", "--steps", "5"}), "unknown option --steps (see opensora doctor --help)");
  EXPECT_TRUE(contains(refusal_of({"selftest", "--type", "bf16"}), "use --dtype"));
}

TEST(Usage, PromptsAndCommandsInTheWrongPlace) {
  EXPECT_EQ(refusal_of({"generate", "a cat"}),
            "unknown argument \"a cat\"; a prompt is given with -p: opensora generate -p \"a cat\"");
  EXPECT_EQ(refusal_of({"generate", "cat", "--steps", "4"}),
            "unknown argument \"cat\"; a prompt is given with -p: opensora generate -p \"cat\"");
  EXPECT_TRUE(contains(refusal_of({"generate", "-p", "a", "red", "cat"}), "in quotes"));
  EXPECT_TRUE(contains(refusal_of({"a cat"}), "opensora generate -p \"a cat\""));
  EXPECT_TRUE(contains(refusal_of({"cat"}), "opensora generate -p \"cat\""));
  EXPECT_TRUE(contains(refusal_of({"-p", "cat"}), "a command comes first: opensora generate -p"));
  EXPECT_TRUE(contains(refusal_of({"--num-frames", "5", "-p", "cat"}), "a command comes first"));
  EXPECT_TRUE(contains(refusal_of({"gen"}), "did you mean generate?"));
  EXPECT_TRUE(contains(refusal_of({"genrate", "-p", "x"}), "did you mean generate?"));
  EXPECT_TRUE(contains(refusal_of({"txt2vid"}), "did you mean generate?"));
  EXPECT_TRUE(contains(refusal_of({"benchmark"}), "did you mean bench?"));
  EXPECT_FALSE(contains(refusal_of({"serve"}), "did you mean"));
  EXPECT_TRUE(contains(refusal_of({}), "give a command: generate, "));
  EXPECT_EQ(refusal_of({"help"}), "");
  EXPECT_EQ(refusal_of({"help", "generate"}), "");
  EXPECT_EQ(refusal_of({"--version", "generate"}), "");
  EXPECT_TRUE(contains(refusal_of({"inspect"}), "PATH is required (see opensora inspect --help)"));
  EXPECT_TRUE(contains(refusal_of({"reconstruct", "--outpt", "x"}), "did you mean --output?"))
      << "not: INPUT is required";
}

}  // namespace
}  // namespace opensora
