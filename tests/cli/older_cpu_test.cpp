// The program as on a CPU without AVX-512, whatever CPU this is: the libraries are kept back by their own variables.
// Halves are computed in float32 there, and every command knows it.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/contains.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using test::Arguments;
using test::contains;

class OlderCpu : public ::testing::Test {
 protected:
  static test::ProgramResult run(const Arguments& arguments, bool is_older = true) {
    test::ProgramOptions options;
    if (is_older) {
      options.environment = {"ONEDNN_MAX_CPU_ISA=AVX2", "ATEN_CPU_CAPABILITY=avx2", "MKL_ENABLE_INSTRUCTIONS=AVX2"};
    }
    return test::run_program(arguments, options);
  }
  Arguments video(const std::string& command, const Arguments& more) const {
    Arguments arguments = {command,
                           "-p",
                           "a red circle",
                           "-s",
                           "1",
                           "--device",
                           "cpu",
                           "-W",
                           "64",
                           "-H",
                           "64",
                           "-o",
                           folder_.path() / "video.mp4",
                           "--num-frames",
                           "5",
                           "--steps",
                           "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  nlohmann::json plan(const Arguments& more) const {
    Arguments flags = {"--json"};
    flags.insert(flags.end(), more.begin(), more.end());
    const test::ProgramResult result = run(video("plan", flags));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out);
  }

  test::TemporaryFolder folder_;
};

TEST_F(OlderCpu, PassesTheSelftestAndLeavesNothingOut) {
  const test::ProgramResult result = run({"selftest", "--device", "cpu", "--dtype", "bf16,fp16", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json report = nlohmann::json::parse(result.out);
  int speeds = 0;
  for (const nlohmann::json& check : report["checks"]) {
    if (check["topic"] == "golden") EXPECT_EQ(check["verdict"], "ok") << check;
    if (check["topic"] != "speed") continue;
    EXPECT_TRUE(contains(check["text"], " in fp32")) << check;
    ++speeds;
  }
  EXPECT_EQ(speeds, 2 * 3) << "a product, attention and a convolution in both";
}

TEST_F(OlderCpu, IsKnownToTheDoctor) {
  const std::string report = run({"doctor"}).out;
  EXPECT_TRUE(contains(report, "bf16 (computed in fp32)")) << report;
  EXPECT_TRUE(contains(report, "fp16 (computed in fp32)")) << report;
  EXPECT_TRUE(contains(report, "--dtype fp32 is its default")) << report;
}

TEST_F(OlderCpu, APlanCountsTheFloats) {
  const nlohmann::json fp32 = plan({"--dtype", "fp32"});
  EXPECT_EQ(plan({})["dtype"], "fp32") << "the default";
  for (const std::string dtype : {"bf16", "fp16"}) {
    const nlohmann::json half = plan({"--dtype", dtype});
    EXPECT_EQ(half["computing"], dtype + " (computed in fp32)");
    const double floats = fp32["anonymous_bytes"], counted = half["anonymous_bytes"];
    EXPECT_NEAR(counted / floats, 1, 0.05) << dtype << ": " << counted << " and " << floats << " bytes";
  }
  const nlohmann::json large =
      plan({"-W", "384", "-H", "384", "--num-frames", "33", "--dtype", "fp32", "--device-memory", "400MiB"});
  ASSERT_FALSE(large["memory"]["flags"].empty()) << large["memory"];
  for (const std::string flag : large["memory"]["flags"]) EXPECT_FALSE(contains(flag, "dtype")) << "saves nothing here";
}

TEST_F(OlderCpu, TheVideoIsTheSameWhereverWeightsAre) {
  for (const char* dtype : {"bf16", "fp16"}) {
    std::string expected;
    for (const char* offload : {"none", "model", "block"}) {
      const test::ProgramResult result =
          run(video("generate", {"--dtype", dtype, "--offload", offload, "--overwrite", "--no-metadata"}));
      ASSERT_EQ(result.exit_code, 0) << result.err;
      EXPECT_TRUE(contains(result.err, std::string("cpu ") + dtype + " (computed in fp32)")) << result.err;
      const std::string bytes = test::read_file(folder_.path() / "video.mp4");
      if (expected.empty()) expected = bytes;
      EXPECT_EQ(bytes, expected) << dtype << ", --offload " << offload;
    }
  }
}

TEST_F(OlderCpu, IsBenchedAsItComputes) {
  const test::ProgramResult result = run({"bench",
                                          "--config",
                                          test::checkpoint_dir() / "tiny.json",
                                          "-W",
                                          "64",
                                          "-H",
                                          "64",
                                          "--num-frames",
                                          "5",
                                          "--device",
                                          "cpu",
                                          "--dtype",
                                          "bf16",
                                          "--stages",
                                          "decode",
                                          "--repetitions",
                                          "1",
                                          "--warmup",
                                          "0",
                                          "-q",
                                          "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["computing"], "bf16 (computed in fp32)");
}

}  // namespace
}  // namespace opensora
