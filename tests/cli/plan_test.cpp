// opensora plan and generate --dry-run: the figures against a run's, the verdict, and that nothing is written.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/contains.h"
#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using Arguments = std::vector<std::string>;

test::ProgramResult run(const std::string& command, Arguments arguments) {
  arguments.insert(arguments.begin(), {command, "--model-dir", std::string(OPENSORA_CONFIGS) + "/demo", "-p",
                                       "a red circle", "--device", "cpu", "--seed", "1", "-q"});
  return test::run_program(arguments);
}

nlohmann::json run_json(const std::string& command, Arguments arguments) {
  arguments.emplace_back("--json");
  const test::ProgramResult result = run(command, std::move(arguments));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out);
}

class PlannedMemory : public ::testing::TestWithParam<const char*> {};

TEST_P(PlannedMemory, IsNearTheMeasured) {
  const test::TemporaryFolder folder;
  const Arguments flags = {"-W", GetParam(), "-H", GetParam(), "--num-frames",
                           "17", "--steps",  "1",  "-o",       folder.path() / "out.mp4"};
  const double planned = run_json("plan", flags)["peak_memory_bytes"];
  const double measured = run_json("generate", flags)["peak_memory_bytes"];
  EXPECT_NEAR(planned / measured, 1, 0.15) << planned << " planned, " << measured << " measured";
}
INSTANTIATE_TEST_SUITE_P(Sizes, PlannedMemory, ::testing::Values("64", "128", "192"),
                         [](const auto& info) { return std::string("Size") + info.param; });

TEST(Plan, ListsTheStagesOfTheRun) {
  const nlohmann::json plan = run_json("plan", {"--steps", "30", "-o", "/tmp/none.mp4", "--overwrite"});
  std::vector<std::string> stages;
  for (const auto& stage : plan["stages"]) stages.push_back(stage["stage"]);
  EXPECT_EQ(stages, (std::vector<std::string>{"text", "text", "denoise", "decode", "write"}));
  EXPECT_EQ(plan["stages"][2]["forwards"], 50);  // text guidance oscillates from step 10 on
  EXPECT_EQ(plan["frames"], 33);
  EXPECT_TRUE(plan["memory"]["fits"]);
}

TEST(Plan, NamesFlagsThatFit) {
  const nlohmann::json plan = run_json("plan", {"-W", "256", "-H", "256", "--device-memory", "500MiB"});
  const nlohmann::json& memory = plan["memory"];
  EXPECT_FALSE(memory["fits"]);
  ASSERT_FALSE(memory["flags"].empty());
  EXPECT_LE(memory["peak_with_flags_bytes"], memory["available_bytes"]);
  EXPECT_EQ(memory["available_bytes"], int64_t{500} << 20);
}

TEST(Plan, SaysThatNothingFits) {
  const test::ProgramResult result = run("plan", {"--device-memory", "1MiB"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(test::contains(result.out, "none of the tried flags")) << result.out;
}

TEST(Plan, RefusesAnAmountThatIsNone) {
  for (const char* amount : {"lots", "24XB", "-1GiB", "0", "24GiB!"}) {
    const test::ProgramResult result = run("plan", {"--device-memory=" + std::string(amount)});
    EXPECT_EQ(result.exit_code, 2) << amount;
    EXPECT_TRUE(test::contains(result.err, "--device-memory")) << result.err;
  }
}

TEST(Plan, IsTheDryRunAndWritesNothing) {
  const test::TemporaryFolder folder;
  // For a GPU, as the figures of a CPU contain this process' own memory of the moment.
  const Arguments flags = {"-o", folder.path() / "out.mp4", "--device-memory", "24GiB", "--device", "cuda"};
  Arguments dry = flags;
  dry.emplace_back("--dry-run");
  EXPECT_EQ(run("generate", dry).out, run("plan", flags).out);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Plan, APromptsFileIsALineARow) {
  const test::TemporaryFolder folder;
  const auto prompts = folder.write("p.csv", "text,num_frames,seed\na red circle,33,1;2\na blue square,5,3\n");
  const std::string model = std::string(OPENSORA_CONFIGS) + "/demo";
  const auto plan = [&](const Arguments& more) {
    Arguments flags = {"plan", "--prompts-file", prompts, "--model-dir", model, "--device", "cpu", "-q"};
    flags.insert(flags.end(), more.begin(), more.end());
    return test::run_program(flags);
  };
  const test::ProgramResult result = plan({"--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::istringstream lines(result.out);
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0]["videos"], 2);
  EXPECT_EQ(rows[0]["frames"], 33);
  EXPECT_EQ(rows[1]["frames"], 5);
  EXPECT_GT(rows[0]["flops"], rows[1]["flops"]);
  const test::ProgramResult table = plan({});
  EXPECT_TRUE(test::contains(table.out, "3 videos, "));
  EXPECT_TRUE(test::contains(table.out, "p.csv:2: fits"));  // the row that needs the most
}

TEST(Doctor, FindsTheDemoModelInOrder) {
  const test::ProgramResult result =
      test::run_program({"doctor", "--model-dir", std::string(OPENSORA_CONFIGS) + "/demo", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json report = nlohmann::json::parse(result.out);
  EXPECT_TRUE(report["ok"]);
  for (const char* topic :
       {"versions", "cpu", "memory", "gpu", "cuda", "ffmpeg", "threads", "configs", "models", "folders"}) {
    const auto about = [&](const auto& finding) { return finding["topic"] == topic; };
    EXPECT_TRUE(std::any_of(report["findings"].begin(), report["findings"].end(), about)) << topic;
  }
}

TEST(Doctor, ReportsWhatIsMissing) {
  const test::TemporaryFolder folder;
  const test::ProgramResult empty = test::run_program({"doctor", "--model-dir", folder.path()});
  EXPECT_EQ(empty.exit_code, 4);
  EXPECT_TRUE(test::contains(empty.out, "error    models")) << empty.out;
  const test::ProgramResult nowhere = test::run_program({"doctor", "--model-dir", "/no/such/folder"});
  EXPECT_EQ(nowhere.exit_code, 4);
  EXPECT_TRUE(test::contains(nowhere.out, "no such folder")) << nowhere.out;
}

}  // namespace
}  // namespace opensora
