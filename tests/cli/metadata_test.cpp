// What a video says about its making, and making it again.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "opensora/video.h"
#include "support/contains.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::contains;
using test::run_program;

class Metadata : public ::testing::Test {
 protected:
  test::ProgramResult generate(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"generate", "-q", "--threads", "1"});
    return run_program(arguments, {.folder = folder_.path()});
  }
  std::vector<std::string> quick(const std::string& output) const {
    return {"-p", "a red \"circle\"", "-s", "18446744073709551615", "--steps", "1", "--num-frames", "5", "-o", output};
  }

  test::TemporaryFolder folder_;
};

TEST_F(Metadata, AVideoIsMadeAgainFromItself) {
  std::vector<std::string> first = quick("a.mp4");
  first.insert(first.end(), {"--guidance", "7.000000001", "--sidecar"});
  ASSERT_EQ(generate(first).exit_code, 0);
  const std::string comment = read_video_info(folder_.path() / "a.mp4").comment;
  EXPECT_EQ(comment + "\n", test::read_file(folder_.path() / "a.json"));
  const nlohmann::json json = nlohmann::json::parse(comment);
  EXPECT_EQ(json["request"]["seed"], 18446744073709551615U);
  EXPECT_EQ(json["request"]["guidance"], 7.000000001);
  EXPECT_EQ(json["effective_prompt"], "a red \"circle\". 24 FPS. 4 motion score.");
  EXPECT_EQ(json["checkpoints"].size(), 4U);
  EXPECT_EQ(comment.find(folder_.path().string()), std::string::npos);

  const auto again = generate({"--from", "a.mp4", "-o", "b.mp4"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(test::read_file(folder_.path() / "b.mp4"), test::read_file(folder_.path() / "a.mp4"));
  ASSERT_EQ(generate({"--from", "a.json", "--guidance", "2", "-o", "c.mp4"}).exit_code, 0);
  EXPECT_NE(test::read_file(folder_.path() / "c.mp4"), test::read_file(folder_.path() / "a.mp4"));
}

TEST_F(Metadata, AFractionOfFramesASecondIsKept) {
  const std::vector<std::string> common = {"-p",           "a", "-s",       "1",  "--steps", "1",
                                           "--num-frames", "5", "--device", "cpu"};
  for (const auto& [rate, kept] : std::vector<std::pair<std::string, nlohmann::json>>{
           {"23.976", "24000/1001"}, {"30000/1001", "30000/1001"}, {"12.5", "25/2"}, {"25.0", 25}}) {
    SCOPED_TRACE(rate);
    std::vector<std::string> first = {"--fps", rate, "-o", "a.mp4", "--sidecar", "--overwrite", "--json"};
    first.insert(first.end(), common.begin(), common.end());
    const auto made = generate(first);
    ASSERT_EQ(made.exit_code, 0) << made.err;
    const std::string whole = rate == "30000/1001" ? "30" : rate == "12.5" ? "13" : rate == "25.0" ? "25" : "24";
    EXPECT_EQ(nlohmann::json::parse(made.out)["prompt"], "a. " + whole + " FPS. 4 motion score.");
    EXPECT_EQ(test::read_json(folder_.path() / "a.json")["request"]["fps"], kept);
    const auto again = generate({"--from", "a.mp4", "-o", "b.mp4", "--overwrite", "--device", "cpu"});
    ASSERT_EQ(again.exit_code, 0) << again.err;
    EXPECT_EQ(test::read_file(folder_.path() / "b.mp4"), test::read_file(folder_.path() / "a.mp4"));
  }
}

TEST_F(Metadata, NoneIfNoneIsWanted) {
  std::vector<std::string> arguments = quick("a.mp4");
  arguments.emplace_back("--no-metadata");
  ASSERT_EQ(generate(arguments).exit_code, 0);
  EXPECT_EQ(read_video_info(folder_.path() / "a.mp4").comment, "");
  const auto refused = generate({"--from", "a.mp4"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_TRUE(contains(refused.err, "a.mp4: does not say"));
}

// A friend's video made from pictures that the friend has.
TEST_F(Metadata, AReferenceThatIsNotHereIsAskedFor) {
  const std::map<std::string, std::pair<std::string, std::string>> cases = {
      {"i2v_head", {R"("image": ["start.png"])", "with --image FILE\n"}},
      {"i2v_tail", {R"("image": ["end.png"])", "with --end-image FILE\n"}},
      {"i2v_loop", {R"("image": ["start.png", "end.png"])", "with --image FILE --end-image FILE\n"}},
      {"v2v_head", {R"("num_frames": 49, "video": "clip.mp4")", "with --video FILE\n"}},
      {"v2v_tail", {R"("num_frames": 49, "video": "clip.mp4")", "with --video FILE --cond-type v2v_tail\n"}}};
  for (const auto& [cond_type, request] : cases) {
    folder_.write("theirs.json",
                  "{\"schema_version\": 1, \"program\": \"opensora\", \"request\": {\"prompt\": \"x\", "
                  "\"cond_type\": \"" +
                      cond_type + "\", " + request.first + "}}");
    const auto refused = generate({"--from", "theirs.json", "-o", "mine.mp4"});
    EXPECT_EQ(refused.exit_code, 9) << cond_type << refused.err;
    EXPECT_TRUE(contains(refused.err, "theirs.json: was made from ")) << refused.err;
    EXPECT_TRUE(contains(refused.err, request.second)) << refused.err;
  }
}

TEST_F(Metadata, WhatIsNoVideoOfOurs) {
  std::vector<std::string> picture = quick("a.png");
  picture.insert(picture.end(), {"--num-frames", "1"});
  ASSERT_EQ(generate(picture).exit_code, 0);
  const auto refused = generate({"--from", "a.png"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_TRUE(contains(refused.err, "a picture holds no metadata")) << refused.err;
  EXPECT_FALSE(contains(refused.err, "comment")) << refused.err;
}

// Before the first step and after it, wherever somebody may look.
TEST_F(Metadata, TheExpectedTimeIsSaid) {
  const auto result = run_program({"generate", "-p", "a red circle", "-s", "1", "--steps", "3", "--num-frames", "5",
                                   "--device", "cpu", "--threads", "1", "--json", "--events", "events", "-o", "a.mp4"},
                                  {.folder = folder_.path()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(contains(result.err, "sampling: 6 forwards, ")) << result.err;
  EXPECT_TRUE(contains(result.err, "the first of 3 steps took ")) << result.err;
  EXPECT_GT(nlohmann::json::parse(result.out)["expected_seconds"], 0);
  std::vector<std::string> order;
  std::istringstream lines(test::read_file(folder_.path() / "events"));
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json event = nlohmann::json::parse(line);
    if (event["event"] == "step") order.emplace_back("step");
    if (event["event"] != "expected") continue;
    EXPECT_GT(event["seconds"], 0);
    order.push_back(event["basis"]);
  }
  EXPECT_EQ(order, (std::vector<std::string>{"trial", "step", "first_step", "step", "step"}));
}

TEST_F(Metadata, AnExistingSidecarIsFoundBeforeTheRun) {
  folder_.write("a.json", "mine");
  std::vector<std::string> arguments = quick("a.mp4");
  arguments.emplace_back("--sidecar");
  EXPECT_EQ(generate(arguments).exit_code, 7);
  EXPECT_EQ(test::read_file(folder_.path() / "a.json"), "mine");
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "a.mp4"));
}

TEST_F(Metadata, PrintConfigSaysWhereFrom) {
  folder_.write("doc.json",
                "{\"schema_version\": 1, \"program\": \"opensora\", \"request\": {\"prompt\": \"x\", \"fps\": 12, "
                "\"steps\": 3}}");
  const auto result =
      generate({"--from", "doc.json", "--steps", "2", "-W", "64", "-H", "48", "--print-config", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["steps"], (nlohmann::json{{"value", 2}, {"source", "--steps"}}));
  EXPECT_EQ(json["fps"], (nlohmann::json{{"value", 12}, {"source", "doc.json"}}));
  EXPECT_EQ(json["height"], (nlohmann::json{{"value", 48}, {"source", "--height"}}));
  EXPECT_TRUE(contains(json["guidance"]["source"], "config.json"));
  EXPECT_EQ(json["crf"]["source"], "built-in");
  EXPECT_TRUE(json["seed"]["value"].is_null());
  const auto table = generate({"-p", "x", "--print-config"});
  ASSERT_EQ(table.exit_code, 0);
  EXPECT_TRUE(contains(table.out, "prompt           \"x\""));
  EXPECT_TRUE(contains(table.out, "--prompt"));
}

TEST_F(Metadata, PrintConfigSaysWhatAPresetSets) {
  folder_.write("doc.json",
                "{\"schema_version\": 1, \"program\": \"opensora\", \"request\": {\"prompt\": \"x\", \"vae_tiling\": "
                "false}}");
  test::Arguments arguments = {"--from", "doc.json", "--preset", "low-vram", "--print-config", "--json"};
  const nlohmann::json low = nlohmann::json::parse(generate(arguments).out);
  EXPECT_EQ(low["vae_tiling"], (nlohmann::json{{"value", true}, {"source", "--preset"}}));
  EXPECT_EQ(low["offload"], (nlohmann::json{{"value", "block"}, {"source", "--preset"}}));
  EXPECT_EQ(low["crf"]["source"], "built-in") << "no preset sets it";
  arguments.insert(arguments.end(), {"--offload", "none"});
  const nlohmann::json own = nlohmann::json::parse(generate(arguments).out);
  EXPECT_EQ(own["offload"], (nlohmann::json{{"value", "none"}, {"source", "--offload"}}));
  EXPECT_EQ(own["vae_tiling"], low["vae_tiling"]);
}

TEST_F(Metadata, PrintConfigOfRowsNamesTheRow) {
  folder_.write("p.csv", "text,steps\na red circle,7\na blue square,\n");
  const auto result = generate({"--prompts-file", "p.csv", "--fps", "12", "--steps", "9", "--print-config", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::istringstream lines(result.out);
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0]["steps"], (nlohmann::json{{"value", 7}, {"source", "p.csv:2"}}));
  EXPECT_EQ(rows[0]["prompt"], (nlohmann::json{{"value", "a red circle"}, {"source", "p.csv:2"}}));
  EXPECT_EQ(rows[0]["fps"], (nlohmann::json{{"value", 12}, {"source", "--fps"}}));
  EXPECT_EQ(rows[1]["steps"], (nlohmann::json{{"value", 9}, {"source", "--steps"}}));
  EXPECT_EQ(rows[1]["crf"]["source"], "built-in");
}

}  // namespace
}  // namespace opensora
