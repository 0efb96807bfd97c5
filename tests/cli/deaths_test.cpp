// The matrix of deaths: whatever ends a run, in whatever stage, the same command again (of a batch with --resume) ends
// as if nothing had happened. What had been saved is not made twice, nothing is left over, and what lies beside the
// outputs and is another's stays as it is. A preloaded library (tests/preload/death.cpp) meets the moments.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "support/death.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::Arguments;
using test::ProgramOptions;
using test::ProgramResult;
using test::read_file;
using Files = std::map<std::string, std::string>;  // content by path

struct Stage {
  const char* name;
  const char* moment;  // in the events
  bool is_quantized = false;
};
const Stage kStages[] = {{"Text", R"("event":"model_loaded"|"model":"t5")"},
                         {"Image", R"("event":"step"|"stage":"image")"},
                         {"Denoise", R"("event":"step"|"stage":"denoise")"},
                         {"QuantizedDenoise", R"("event":"step"|"stage":"denoise")", true},
                         {"Decode", R"("event":"stage_started"|"stage":"decode")"},
                         {"Write", R"("event":"progress"|"stage":"write")"}};

struct Death {
  const char* name;
  const char* what;            // OPENSORA_DEATH
  int exit_code, batch_code;   // of one video, of a batch
  bool is_clean_stop = false;  // a wish to stop: of a single run nothing stays
};
const Death kDeaths[] = {{"SIGKILL", "signal:9", 137, 137},      {"SIGTERM", "signal:15", 143, 143, true},
                         {"SIGHUP", "signal:1", 129, 129, true}, {"SIGINT twice", "twice:2", 130, 130},
                         {"--timeout", "clock", 124, 3},         {"a full disk", "disk", 7, 3},
                         {"out of memory", "memory", 6, 3}};

class Deaths : public ::testing::TestWithParam<std::tuple<Stage, bool>> {
 protected:
  static Stage stage() { return std::get<0>(GetParam()); }
  static bool is_batch() { return std::get<1>(GetParam()); }

  static Arguments with_model(const std::string& command) {
    const bool has_picture = stage().name == std::string("Image");
    const fs::path config = test::checkpoint_dir() / (has_picture ? "tiny_t2i2v.json" : "tiny.json");
    return {command, "--model-dir", test::checkpoint_dir(), "--config", config};
  }
  void quantize() const {
    const fs::path whole = test::checkpoint_dir() / "Open_Sora_v2.safetensors";
    ASSERT_EQ(test::run_program({"quantize", whole, path("int8.safetensors")}).exit_code, 0);
  }
  // Where texts are not what is to be met, they need not be encoded in each run.
  void encode_texts() const {
    Arguments arguments = with_model("encode-text");
    arguments.insert(arguments.end(), {"-p", "a red circle", "-p", "a blue square", "--output-dir", path("texts")});
    ASSERT_EQ(test::run_program(arguments).exit_code, 0);
  }

  // A first picture where its stage is to be met; previews while sampling.
  Arguments common() const {
    Arguments arguments = with_model("generate");
    const bool has_picture = stage().name == std::string("Image");
    if (stage().name != std::string("Text")) {
      arguments.insert(arguments.end(), {"--text-embeddings", path("texts")});
    }
    for (const char* word : {"-W", "32", "-H", "32", "--num-frames", "5", "-s", "1", "--device", "cpu", "--threads",
                             "1", "--timeout", "100000"}) {
      arguments.emplace_back(word);
    }
    if (has_picture) arguments.insert(arguments.end(), {"--image-size", "32x32"});
    const bool samples = std::string(stage().name).ends_with("Denoise");
    arguments.insert(arguments.end(), {"--steps", samples ? "2" : "1", "--preview-every", samples ? "1" : "0"});
    if (stage().is_quantized) {
      const fs::path weights = path("int8.safetensors");
      arguments.insert(arguments.end(), {"--diffusion-model", weights, "--steps", "7", "--cache", "pairs:0.5"});
    }
    return arguments;
  }

  // Two videos of a batch, or one with all that can lie beside it; with events.
  Arguments command(const std::string& output, bool resume) const {
    Arguments arguments = common();
    const fs::path folder = path(output);
    Arguments more = {"-p",
                      "a red circle",
                      "-o",
                      folder / "v.mp4",
                      "--save-frames",
                      folder / "frames",
                      "--contact-sheet",
                      folder / "sheet.png",
                      "--sidecar"};
    if (stage().name != std::string("Image")) {
      more.insert(more.end(), {"--save-tensors", folder / "t.safetensors"});
    }
    if (is_batch()) more = {"--prompts-file", path("p.csv"), "--output-dir", folder};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.insert(arguments.end(), {"--events", events()});
    if (resume) arguments.emplace_back("--resume");
    return arguments;
  }
  ProgramResult run(const std::string& output, bool resume, ProgramOptions options = {}) const {
    return test::run_program(command(output, resume), options);
  }

  fs::path path(const std::string& name) const { return folder_.path() / name; }
  fs::path events() const { return path("events.jsonl"); }

  // All but journals, of which each run adds lines.
  Files files(const std::string& output) const {
    Files found;
    for (const auto& entry : fs::recursive_directory_iterator(path(output))) {
      const fs::path& file = entry.path();
      if (entry.is_directory() || file.extension() == ".jsonl") continue;
      found[file.lexically_relative(path(output))] = read_file(file);
    }
    return found;
  }

  // The videos of which `event` tells, with `stage` where that is given.
  std::set<int> videos_with(const std::string& event, const std::string& stage = "") const {
    std::set<int> rows;
    std::istringstream lines(read_file(events()));
    for (std::string line; std::getline(lines, line);) {
      const nlohmann::json entry = nlohmann::json::parse(line);
      if (entry["event"] == event && (stage.empty() || entry.value("stage", "") == stage)) {
        rows.insert(entry["row"].get<int>());
      }
    }
    return rows;
  }

  Files write_files_of_others(const std::string& output) const {
    const Files others = {{"w.latent.safetensors", "another's"},
                          {".opensora-mine.part", "another's"},
                          {"v.txt", "notes"},
                          {"frames/mine.png", "another's"}};
    for (const auto& [name, content] : others) folder_.write(fs::path(output) / name, content);
    return others;
  }

  void die_and_try_again(const Death& death, const Files& expected) const;

  test::TemporaryFolder folder_;
};

void Deaths::die_and_try_again(const Death& death, const Files& expected) const {
  SCOPED_TRACE(death.name);
  const std::string output = death.what;
  const Files others = write_files_of_others(output);
  const std::string video = is_batch() && stage().name != std::string("Text") ? R"(|"row":2)" : "";
  ProgramOptions options;
  options.environment = test::environment_of_death(death.what, stage().moment + video, folder_);
  const ProgramResult dead = run(output, /*resume=*/false, options);
  EXPECT_EQ(dead.exit_code, is_batch() ? death.batch_code : death.exit_code) << dead.err;
  if (death.is_clean_stop && !is_batch()) {
    EXPECT_TRUE(files(output) == others) << "not all is cleaned up";
  }
  const bool keeps = is_batch() || !death.is_clean_stop;
  const std::set<int> pictures = videos_with("picture_done"), latents = videos_with("video_sampled");

  const ProgramResult again = run(output, /*resume=*/is_batch());
  ASSERT_EQ(again.exit_code, 0) << again.err;
  Files wanted = expected;
  wanted.insert(others.begin(), others.end());
  const Files found = files(output);
  for (const auto& [name, content] : found) EXPECT_TRUE(wanted.contains(name)) << name << " is left over";
  for (const auto& [name, content] : wanted) {
    ASSERT_TRUE(found.contains(name)) << name << " is missing";
    EXPECT_TRUE(found.at(name) == content) << name << " has other bytes";
  }
  if (!keeps) return;
  for (const int row : videos_with("stage_started", "image")) EXPECT_FALSE(pictures.contains(row)) << row;
  for (const int row : videos_with("stage_started", "denoise")) {
    EXPECT_FALSE(latents.contains(row)) << row << " was sampled again after it had been saved";
  }
}

TEST_P(Deaths, EndInARightRetry) {
  if (stage().is_quantized) quantize();
  encode_texts();
  folder_.write("p.csv", "text,seed,name\na red circle,1,one\na blue square,2,two\n");
  if (!is_batch()) fs::create_directories(path("whole"));
  const ProgramResult whole = run("whole", /*resume=*/false);
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const Files expected = files("whole");
  const bool has_picture = stage().name == std::string("Image");  // which is kept
  const size_t videos = is_batch() ? 2 : 1, beside = is_batch() ? 0 : 7;
  EXPECT_EQ(expected.size(), videos + beside + (has_picture ? videos : 0) + (has_picture || is_batch() ? 0 : 1));
  for (const Death& death : kDeaths) {
    const bool is_repetition = stage().is_quantized && death.what != std::string("signal:9");  // of other weights
    if (!is_repetition) die_and_try_again(death, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Matrix, Deaths, ::testing::Combine(::testing::ValuesIn(kStages), ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) +
                                  (std::get<1>(info.param) ? "OfABatch" : "");
                         });

}  // namespace
}  // namespace opensora
