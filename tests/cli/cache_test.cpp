// --cache, --speed and opensora calibrate, as their users run them.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/batch_fixture.h"
#include "support/contains.h"
#include "support/generate_fixture.h"
#include "support/program.h"

namespace opensora {
namespace {

using nlohmann::json;
using test::Arguments;
using test::contains;
using test::operator+;

class CachedRuns : public test::BatchFixture {
 protected:
  // The demo model in 20 steps: 35 forwards.
  test::ProgramResult run_demo(const std::string& command, const Arguments& flags) const {
    const Arguments common = {"-p",         "a red circle", "-s",           "1",
                              "--steps",    "20",           "--num-frames", "5",
                              "--guidance", "7.5",          "--threads",    "1",
                              "--device",   "cpu",          "--model-dir",  std::string(OPENSORA_CONFIGS) + "/demo"};
    const Arguments output = command == "calibrate" ? Arguments{} : Arguments{"--output-size", "none"};
    const bool logs = std::find(flags.begin(), flags.end(), "--log-level") != flags.end();
    const Arguments log = logs ? Arguments{"--progress", "none"} : Arguments{"-q"};
    return test::run_program(Arguments{command} + common + output + log + flags, {.folder = folder_.path()});
  }
  json json_of(const std::string& command, const Arguments& flags) const {
    const test::ProgramResult result = run_demo(command, flags + Arguments{"--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out);
  }
};

TEST_F(CachedRuns, SayWhatTheyComputed) {
  const json exact = json_of("generate", {"-o", "exact.mp4"});
  EXPECT_EQ(exact["forwards"], 35);
  EXPECT_TRUE(exact["computed_steps"].is_null());
  const json pairs = json_of("generate", {"-o", "pairs.mp4", "--cache", "pairs"});
  EXPECT_LT(pairs["forwards"], 30);
  const json& steps = pairs["computed_steps"];
  EXPECT_EQ(steps.front(), 1);
  EXPECT_EQ(steps.back(), 20);
  EXPECT_LT(steps.size(), 20U);
  std::string list = "steps:";
  for (const json& step : steps) list += (step == 1 ? "" : ",") + step.dump();
  const json again = json_of("generate", {"-o", "again.mp4", "--cache", list});
  EXPECT_EQ(again["forwards"], pairs["forwards"]);
  EXPECT_EQ(again["computed_steps"], steps);
}

TEST_F(CachedRuns, ArePlanned) {
  for (const Arguments& flags : std::vector<Arguments>{{}, {"--speed", "1.5"}, {"--cache", "steps:1-3,5,9,20"}}) {
    const json plan = json_of("plan", flags),
               made = json_of("generate", flags + Arguments{"-o", "a.mp4", "--overwrite"});
    EXPECT_EQ(plan["stages"][2]["forwards"], made["forwards"]);
    EXPECT_EQ(plan["stages"][2]["forwards_are_estimated"], false);
  }
  const Arguments pairs = {"--cache", "pairs", "--num-frames", "33"};  // as the curve was measured
  const json plan = json_of("plan", pairs), made = json_of("generate", pairs + Arguments{"-o", "b.mp4"});
  EXPECT_NEAR(plan["stages"][2]["forwards"].get<double>(), made["forwards"].get<double>(), 6);
  EXPECT_EQ(plan["stages"][2]["forwards_are_estimated"], true);
  EXPECT_TRUE(contains(run_demo("plan", {"--cache", "pairs"}).out, "  ~"));
}

TEST_F(CachedRuns, AreMadeAgainFromTheVideo) {
  for (const char* cache : {"--cache=pairs:0.06", "--speed=1.7"}) {
    SCOPED_TRACE(cache);
    ASSERT_EQ(run_demo("generate", {"-o", "a.mp4", cache, "--overwrite"}).exit_code, 0);
    const test::ProgramResult again =
        test::run_program({"generate", "--from", "a.mp4", "-o", "b.mp4", "--overwrite", "--threads", "1", "--model-dir",
                           std::string(OPENSORA_CONFIGS) + "/demo"},
                          {.folder = folder_.path()});
    ASSERT_EQ(again.exit_code, 0) << again.err;
    EXPECT_EQ(test::read_file(folder_.path() / "a.mp4"), test::read_file(folder_.path() / "b.mp4"));
  }
}

TEST_F(CachedRuns, OfABatchDifferByRowAndAreResumed) {
  folder_.write(
      "p.csv", "prompt,name,steps,cache,speed\na,exact,12,,\nb,none,12,none,\na,pairs,12,pairs:0.1,\na,fast,12,,1.5\n");
  const Arguments common = {"--num-frames", "5", "--seed", "1", "--preview-every", "1"};
  const std::filesystem::path prompts = folder_.path() / "p.csv";
  ASSERT_EQ(run(prompts, "out", common).exit_code, 0);
  std::map<std::string, json> sampled;
  for (const json& line : journal("out")) {
    if (line["event"] == "video_sampled") sampled[std::filesystem::path(line["output"]).stem()] = line;
  }
  EXPECT_EQ(sampled["exact"]["forwards"], 23);
  EXPECT_FALSE(sampled["none"].contains("computed_steps"));
  for (const char* name : {"pairs", "fast"}) {
    EXPECT_LT(sampled[name]["forwards"], 23);
    EXPECT_EQ(sampled[name]["computed_steps"].back(), 12);
    EXPECT_NE(sampled[name]["key"], sampled["exact"]["key"]);
  }
  ASSERT_EQ(run(prompts, "out", common + Arguments{"--resume"}).exit_code, 0);
  for (const auto& [key, count] : how_often("out", "video_sampled")) EXPECT_EQ(count, 1) << key;
}

TEST_F(CachedRuns, FollowACalibration) {
  const json table = json_of("calibrate", {"table.json"});
  EXPECT_EQ(table["forwards"], 35);
  EXPECT_EQ(table["changes"].front(), json({1, 0}));
  EXPECT_EQ(table["changes"].size(), 15U);  // all guided steps
  const test::ProgramResult there = run_demo("calibrate", {"table.json"});
  EXPECT_EQ(there.exit_code, 7);
  EXPECT_TRUE(contains(there.err, "--overwrite or another TABLE")) << there.err;
  for (const Arguments& flag : {Arguments{"-o", "a.mp4"}, Arguments{"--resume"}, Arguments{"--codec", "ffv1"}}) {
    EXPECT_EQ(run_demo("calibrate", Arguments{"other.json"} + flag).exit_code, 2) << flag.front();
  }
  EXPECT_EQ(run_demo("calibrate", {"table.json", "--overwrite"}).out, "table.json\n");
  const Arguments flags = {"--speed", "1.6", "--calibration", "table.json"};
  const json plan = json_of("plan", flags), made = json_of("generate", flags + Arguments{"-o", "a.mp4"});
  EXPECT_EQ(plan["stages"][2]["forwards"], made["forwards"]);
  EXPECT_LE(made["forwards"].get<double>() * 1.6, 35);
  EXPECT_NE(made["computed_steps"], json_of("generate", {"-o", "b.mp4", "--speed", "2.2"})["computed_steps"]);
}

// Its attention is in 8 bits where there is such a kernel, and that there is none here is nothing to warn of.
TEST_F(CachedRuns, OfThePresetFastWarnOfNothingOnACpu) {
  const test::ProgramResult made = run_demo("generate", {"--preset", "fast", "-o", "fast.mp4", "--log-level", "warn"});
  EXPECT_EQ(made.exit_code, 0);
  EXPECT_EQ(made.err, "");
  const Arguments asked = {"--attention", "fp8", "-o", "fp8.mp4", "--log-level", "warn"};
  EXPECT_TRUE(contains(run_demo("generate", asked).err, "attention stays exact"));
}

// A table may be given for the rows that a prompts file has a speed for.
TEST_F(CachedRuns, OfAPromptsFileShareACalibration) {
  folder_.write("table.json", R"({"program": "opensora", "schema_version": 1, "changes": [[1, 0], [0.5, 1], [0, 3]]})");
  const Arguments flags = {"--num-frames", "1", "--steps",       "12",
                           "-s",           "1", "--calibration", folder_.path() / "table.json"};
  const auto with = [&](const std::string& rows) {
    return run(folder_.write("p.csv", "prompt,name,cache,speed\n" + rows), "out", flags);
  };
  const test::ProgramResult without = with("a,a,,1.5\nb,b,,\n");
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_TRUE(contains(without.err, "p.csv:3: --calibration requires --speed")) << without.err;
  const test::ProgramResult made = with("a,a,,1.5\nb,b,none,\n");
  EXPECT_EQ(made.exit_code, 0) << made.err;
}

// Their guided steps, at which changes are measured, are not the same.
TEST_F(CachedRuns, OfUnlikeGuidanceAreNotCalibratedTogether) {
  const std::string rows = folder_.write("rows.csv", "prompt,guidance,text-osci\nsea,7.5,true\nsea,7.5,false\n");
  const test::ProgramResult result =
      test::run_program({"calibrate", "table.json", "--prompts-file", rows, "--steps", "20", "--num-frames", "5",
                         "--model-dir", std::string(OPENSORA_CONFIGS) + "/demo"},
                        {.folder = folder_.path()});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(contains(result.err, "guided steps")) << result.err;
}

// Guidance of 0 leaves the prompt's branch out; one that is as strong as the image's leaves the negative prompt out of
// all steps but those where it is lowered.
TEST_F(CachedRuns, GoOnWhereSomeStepsHaveOtherBranches) {
  ASSERT_EQ(run_demo("generate", {"--num-frames", "1", "--steps", "1", "-o", "start.png"}).exit_code, 0);
  for (const Arguments& flags :
       {Arguments{"--guidance", "0"}, Arguments{"--guidance", "3", "--guidance-img", "3", "--no-image-osci",
                                                "--no-temporal-osci", "--image", "start.png"}}) {
    const json made = json_of("generate", flags + Arguments{"-o", "a.mp4", "--overwrite", "--cache", "pairs"});
    EXPECT_LT(made["computed_steps"].size(), 20U) << made;
  }
}

TEST_F(CachedRuns, AreToComputeTheLastStep) {
  const test::ProgramResult result =
      test::run_program({"plan", "-p", "sea", "--steps", "20", "--cache", "steps:1-6,8,10", "--model-dir",
                         std::string(OPENSORA_CONFIGS) + "/demo"},
                        {.folder = folder_.path()});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(contains(result.err, "--cache steps:1-6,8,10: not even the last of 20 steps")) << result.err;
}

class CacheRefusals : public test::GenerateCommand {};

TEST_F(CacheRefusals, NameTheFlagAndWhatIsExpected) {
  const auto with = [&](const Arguments& flags) { return quick() + flags; };
  expect_error(with({"--cache", "teacache"}), 2, {"--cache", "none, pairs, pairs:THRESHOLD", "\"teacache\""});
  expect_error(with({"--cache", "pairs:2"}), 2, {"--cache", "\"pairs:2\""});
  expect_error(with({"--cache", "steps:1-30"}), 2, {"--cache", "steps up to 1", "found 30"});
  expect_error(with({"--speed", "0.5"}), 2, {"--speed", "1 to 10"});
  expect_error(with({"--speed", "2"}), 2, {"--speed", "at most 1 times"});
  expect_error(with({"--speed", "2", "--cache", "pairs"}), 2, {"--speed", "--cache"});
  for (const Arguments& flags : {Arguments{"--cache", "pairs"}, Arguments{"--speed", "2"}}) {
    expect_error(with(flags + Arguments{"--sampler", "heun"}), 2, {"--sampler heun", "--cache and --speed"});
  }
  expect_error(with({"--calibration", "x"}), 2, {"--calibration requires --speed"});
}

TEST_F(CacheRefusals, NameTheTableAndWhatIsWrongWithIt) {
  const std::string start = R"({"program": "opensora", "schema_version": 1, "changes": )";
  for (const auto& [text, word] : std::vector<std::pair<std::string, std::string>>{
           {"{", "not valid JSON"},
           {"[]", "expected a table of opensora calibrate"},
           {R"({"program": "opensora", "schema_version": 2, "changes": []})", "schema_version is 2"},
           {start + "[1, 2]}", "expected pairs of numbers"},
           {start + "[[1, 0]]}", "two or more points"},
           {start + "[[0, 0], [1, 1]]}", "times fall"}}) {
    SCOPED_TRACE(text);
    const std::string file = folder_.write("table.json", text);
    expect_error(quick() + Arguments{"--steps", "20", "--speed", "1.5", "--calibration", file}, 2, {file, word});
  }
  const std::string none = folder_.path() / "none.json";
  expect_error(quick() + Arguments{"--steps", "20", "--speed", "1.5", "--calibration", none}, 2, {none});
}

}  // namespace
}  // namespace opensora
