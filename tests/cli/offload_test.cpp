// --offload and --max-memory: the same video wherever the weights are, a limit that is kept, and a plan that knows it.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/contains.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::Arguments;
using test::operator+;

// A model of random numbers with some 100 million parameters in its transformer: 400 MB in float32, of which three
// blocks are 110 MB.
class Offload : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::TemporaryFolder;
    nlohmann::json config = test::read_json(test::checkpoint_dir() / "tiny.json");
    config["model"].update({{"hidden_size", 512}, {"num_heads", 8}, {"depth", 6}, {"depth_single_blocks", 12}});
    config["model"]["axes_dim"] = {16, 24, 24};
    std::ofstream(folder_->path() / "config.json") << config;
    const test::ProgramResult made =
        test::run_program({"random-model", folder_->path(), "--config", folder_->path() / "config.json", "-p", "sea"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  test::ProgramResult run(const std::string& command, const Arguments& more) const {
    const std::string models = folder_->path();
    Arguments arguments = {command,
                           "-p",
                           "sea",
                           "--model-dir",
                           models,
                           "--text-embeddings",
                           models + "/embeddings",
                           "-W",
                           "64",
                           "-H",
                           "64",
                           "--num-frames",
                           "1",
                           "--steps",
                           "2",
                           "-s",
                           "1",
                           "--device",
                           "cpu",
                           "-o",
                           output(),
                           "--overwrite"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return test::run_program(arguments);
  }
  static std::string output() { return folder_->path() / "out.png"; }

  static test::TemporaryFolder* folder_;
};
test::TemporaryFolder* Offload::folder_ = nullptr;

TEST_F(Offload, MakesTheSameVideoWhereverWeightsAre) {
  const test::ProgramResult mapped = run("generate", {"-q"});
  ASSERT_EQ(mapped.exit_code, 0) << mapped.err;
  const std::string expected = test::read_file(output());
  for (const char* offload : {"none", "model", "block"}) {
    const test::ProgramResult result = run("generate", {"-q", "--offload", offload});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(test::read_file(output()), expected) << offload;
  }
}

TEST_F(Offload, TheLimitIsKept) {
  const test::ProgramResult whole = run("generate", {"-q", "--offload", "none", "--max-memory", "320MiB"});
  EXPECT_EQ(whole.exit_code, 6) << whole.err;
  EXPECT_TRUE(test::contains(whole.err, "--max-memory")) << whole.err;
  EXPECT_TRUE(test::contains(whole.err, "--offload model")) << whole.err;
  for (const char* offload : {"block", "model", "auto"}) {
    const test::ProgramResult result = run("generate", {"-q", "--offload", offload, "--max-memory", "320MiB"});
    EXPECT_EQ(result.exit_code, 0) << offload << result.err;
  }
}

// What is forecast from is held, too: at the least that the plan says, the video is the same.
TEST_F(Offload, TheLimitIsKeptWithACache) {
  const Arguments cached = {"-q", "--steps", "8", "--cache", "pairs:0.5", "--offload", "model"};
  ASSERT_EQ(run("generate", cached).exit_code, 0);
  const std::string expected = test::read_file(output());
  const test::ProgramResult plan = run("plan", cached + Arguments{"--json", "--max-memory", "1MiB"});
  const std::string flag = nlohmann::json::parse(plan.out)["memory"]["flags"][0];  // "--max-memory 300MiB"
  ASSERT_TRUE(flag.starts_with("--max-memory ")) << flag;
  const std::string least = flag.substr(flag.find(' ') + 1);
  const test::ProgramResult limited = run("generate", cached + Arguments{"--max-memory", least});
  EXPECT_EQ(limited.exit_code, 0) << limited.err;
  EXPECT_EQ(test::read_file(output()), expected);
}

TEST_F(Offload, ThePlanKnowsTheLimit) {
  const auto plan = [&](const char* offload) {
    return nlohmann::json::parse(run("plan", {"-q", "--json", "--max-memory", "320MiB", "--offload", offload}).out);
  };
  const nlohmann::json none = plan("none"), block = plan("block"), model = plan("model");
  EXPECT_FALSE(none["memory"]["fits"]) << none;
  EXPECT_EQ(none["memory"]["flags"], nlohmann::json({"--offload model"})) << none;
  EXPECT_EQ(none["memory"]["source"], "--max-memory");
  EXPECT_TRUE(block["memory"]["fits"]) << block;
  EXPECT_TRUE(model["memory"]["fits"]) << model;
  EXPECT_LT(model["anonymous_bytes"], block["anonymous_bytes"]);
  EXPECT_LT(block["anonymous_bytes"], none["anonymous_bytes"]);
}

TEST_F(Offload, WordsAndAmountsThatAreNoneAreRefused) {
  EXPECT_EQ(run("generate", {"--offload", "half"}).exit_code, 2);
  const test::ProgramResult result = run("generate", {"--max-memory", "lots"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(test::contains(result.err, "--max-memory")) << result.err;
}

}  // namespace
}  // namespace opensora
