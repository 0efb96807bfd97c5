// opensora bench: what it measures, of which work, and what it refuses.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/contains.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::Arguments;

const Arguments kTinyVideo = {"-W", "64", "-H", "64", "--num-frames", "5", "--device", "cpu", "--threads", "1", "-q"};

Arguments tiny(const std::string& command, const Arguments& more) {
  Arguments arguments = {command, "--config", test::checkpoint_dir() / "tiny.json"};
  arguments.insert(arguments.end(), kTinyVideo.begin(), kTinyVideo.end());
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

nlohmann::json run_json(Arguments arguments) {
  arguments.emplace_back("--json");
  const test::ProgramResult result = test::run_program(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out);
}

std::vector<std::string> names_of(const nlohmann::json& stages) {
  std::vector<std::string> names;
  for (const auto& stage : stages) names.push_back(stage["stage"]);
  return names;
}

TEST(Bench, MeasuresEveryStageOfRandomWeights) {
  const nlohmann::json report = run_json(tiny("bench", {"--repetitions", "2"}));
  EXPECT_TRUE(report["random_weights"]);
  EXPECT_EQ(report["threads"], 1);
  EXPECT_EQ(names_of(report["stages"]), (std::vector<std::string>{"text", "step", "decode", "encode", "write"}));
  ASSERT_EQ(report["probes"].size(), 2U);
  for (const auto& probe : report["probes"]) EXPECT_GT(probe["gflops_per_second"], 0);
  for (const auto& stage : report["stages"]) {
    EXPECT_EQ(stage["seconds"].size(), 2U) << stage["stage"];
    EXPECT_GT(stage["median_seconds"], 0) << stage["stage"];
    EXPECT_GT(stage["peak_memory_bytes"], 0) << stage["stage"];
    const bool computes = stage["stage"] != "write";
    EXPECT_EQ(stage["flops"] > 0, computes) << stage["stage"];
    EXPECT_EQ(stage["share_of_peak"].is_number(), computes) << stage["stage"];
  }
}

// Two forwards a step, the decoding of all frames: as plan counts them.
TEST(Bench, CountsTheWorkOfTheRun) {
  const nlohmann::json report = run_json(
      tiny("bench", {"--model-dir", test::checkpoint_dir(), "--repetitions", "1", "--stages", "load,step,decode"}));
  EXPECT_FALSE(report["random_weights"]);
  EXPECT_EQ(names_of(report["stages"]), (std::vector<std::string>{"load", "step", "decode"}));
  const nlohmann::json plan = run_json(
      tiny("plan", {"--model-dir", test::checkpoint_dir(), "-p", "sea", "--steps", "1", "-o", "/tmp/none.mp4"}));
  for (const auto& planned : plan["stages"]) {
    if (planned["stage"] == "denoise") {
      EXPECT_NEAR(report["stages"][1]["flops"].get<double>() / planned["flops"].get<double>(), 1, 0.03);
    }
    if (planned["stage"] == "decode") EXPECT_EQ(report["stages"][2]["flops"], planned["flops"]);
  }
}

TEST(Bench, ScalesAndItsScriptDraws) {
  const nlohmann::json points = run_json(tiny("bench", {"--scaling"}));
  ASSERT_EQ(points.size(), 16U);  // tokens, frames of two stages, steps: four each
  for (size_t first = 0; first < points.size(); first += 4) {
    EXPECT_GT(points[first + 3]["flops"], 2 * points[first]["flops"].get<double>()) << points[first];
    EXPECT_GT(points[first]["seconds"], 0);
  }
  EXPECT_EQ(points[3]["tokens"], 8 * points[0]["tokens"].get<int64_t>());
  if (std::system("python3 --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "Python is not installed";
  const test::TemporaryFolder folder;
  const std::filesystem::path script =
      std::filesystem::path(OPENSORA_CONFIGS).parent_path() / "scripts/plot_scaling.py";
  const std::string plot = folder.path() / "scaling.svg";
  const std::string file = folder.write("scaling.json", points.dump());
  ASSERT_EQ(std::system(("python3 '" + script.string() + "' '" + file + "' -o '" + plot + "'").c_str()), 0);
  const std::string svg = test::read_file(plot);
  for (const char* line : {"step by tokens", "step by frames", "decode by frames", "denoise by steps", "</svg>"}) {
    EXPECT_TRUE(test::contains(svg, line)) << line;
  }
}

TEST(Bench, RefusesInOneLine) {
  const auto expect = [](const Arguments& more, int code, const char* text) {
    const test::ProgramResult result = test::run_program(tiny("bench", more));
    EXPECT_EQ(result.exit_code, code) << text;
    EXPECT_TRUE(test::contains(result.err, text)) << result.err;
  };
  expect({"--stages", "load"}, 2, "--stages load: give the weights");
  expect({"--stages", "dance"}, 2, "found \"dance\"");
  expect({"--repetitions", "0"}, 2, "--repetitions");
  expect({"--scaling", "--stages", "step"}, 2, "--scaling");
}

TEST(Bench, RefusesRandomWeightsThatDoNotFit) {
  const test::TemporaryFolder folder;
  const std::filesystem::path config =
      folder.write("huge.json", R"({"_base_": ")" + std::string(OPENSORA_CONFIGS) +
                                    R"(/256px.json", "model": {"hidden_size": 1048576, "num_heads": 8192}})");
  const test::ProgramResult result = test::run_program({"bench", "--config", config, "--stages", "step", "-q"});
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_TRUE(test::contains(result.err, "random weights for the stage \"step\" take")) << result.err;
}

}  // namespace
}  // namespace opensora
