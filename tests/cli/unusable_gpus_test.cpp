// GPUs that cannot be used, on any machine: tests/stub_driver plays the driver. Every command says the same of them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "support/contains.h"
#include "support/program.h"

namespace opensora {
namespace {

using test::Arguments;
using test::contains;

// The answers of a driver: those that stub_driver/driver.cpp reads.
using Driver = std::vector<std::string>;

const Driver kOldDriver = {"STUB_CUDA=12040", "STUB_GPUS=89"}, kVolta = {"STUB_GPUS=70"}, kAda = {"STUB_GPUS=89"},
             kNoGpu = {"STUB_INIT=100"}, kDead = {"STUB_INIT=999"};

test::ProgramResult run_with(const Driver& driver, const Arguments& arguments) {
  const char* before = std::getenv("LD_LIBRARY_PATH");
  test::ProgramOptions options{.folder = {}, .environment = driver, .starts_anew = true, .meanwhile = {}};
  options.environment.push_back(std::string("LD_LIBRARY_PATH=" OPENSORA_STUB_DRIVER) +
                                (before == nullptr ? "" : ":" + std::string(before)));
  return test::run_program(arguments, options);
}

test::ProgramResult plan_with(const Driver& driver, const Arguments& more) {
  Arguments arguments = {
      "plan", "--model-dir", std::string(OPENSORA_CONFIGS) + "/demo", "-p", "a red circle", "-W", "64", "-H",
      "64",   "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_with(driver, arguments);
}

// The lines of doctor's report that are errors.
std::vector<std::string> errors_of(const Driver& driver, int exit_code) {
  const test::ProgramResult result = run_with(driver, {"doctor", "--json"});
  EXPECT_EQ(result.exit_code, exit_code) << result.out << result.err;
  std::vector<std::string> errors;
  const nlohmann::json report = nlohmann::json::parse(result.out);
  for (const nlohmann::json& finding : report["findings"]) {
    if (finding["health"] == "error" && finding["topic"] != "models") errors.push_back(finding["text"]);
  }
  return errors;
}

// Doctor, --version, plan and generate all speak of `problem`; without --device a run takes the CPU, and says so once.
void expect_unusable(const Driver& driver, const std::string& problem) {
  const std::vector<std::string> errors = errors_of(driver, 5);
  ASSERT_EQ(errors.size(), 1U) << "one fault, one line";
  EXPECT_TRUE(contains(errors.front(), problem)) << errors.front();

  const test::ProgramResult version = run_with(driver, {"--version"});
  EXPECT_EQ(version.exit_code, 0) << version.err;
  EXPECT_TRUE(contains(version.out, "cannot be used: ")) << version.out;
  EXPECT_TRUE(contains(version.out, problem)) << version.out;

  for (const std::string command : {"plan", "generate"}) {
    const test::ProgramResult asked = run_with(
        driver, {command, "--model-dir", std::string(OPENSORA_CONFIGS) + "/demo", "-p", "a", "--device", "cuda"});
    EXPECT_EQ(asked.exit_code, 5) << command << ": " << asked.err;
    EXPECT_TRUE(contains(asked.err, "--device cuda:0: ")) << asked.err;
    EXPECT_TRUE(contains(asked.err, problem)) << asked.err;
  }

  const test::ProgramResult automatic = plan_with(driver, {});
  ASSERT_EQ(automatic.exit_code, 0) << automatic.err;
  EXPECT_EQ(nlohmann::json::parse(automatic.out)["device"], "cpu");
  const size_t first = automatic.err.find("so the CPU is: ");
  ASSERT_NE(first, std::string::npos) << automatic.err;
  EXPECT_TRUE(contains(automatic.err, problem)) << automatic.err;
  EXPECT_EQ(automatic.err.find("so the CPU is: ", first + 1), std::string::npos) << "once: " << automatic.err;
}

TEST(UnusableGpus, ADriverThatIsTooOld) { expect_unusable(kOldDriver, "serves CUDA 12.4, and LibTorch needs 13.0"); }

TEST(UnusableGpus, AGpuThatIsTooOld) {
  expect_unusable(kVolta, "Stub GPU is of compute capability 7.0, and LibTorch has kernels from 7.5");
}

TEST(UnusableGpus, ADriverThatDoesNotStart) {
  expect_unusable(kDead, "the NVIDIA driver does not start (cuInit: CUDA_ERROR_UNKNOWN)");
}

// With LibTorch's libraries for the CPU they cannot be opened, and with those for CUDA they find a driver of no use.
TEST(UnusableGpus, OnesThatLibTorchCannotUse) {
  const std::string version = run_with(kAda, {"--version"}).out;
  const bool opens = contains(version, "LibTorch can use 0");
  if (!opens) EXPECT_TRUE(contains(version, "run scripts/setup.sh --cuda")) << version;
  expect_unusable(kAda, opens ? "LibTorch can use 0" : "LibTorch's CUDA libraries cannot be opened");
}

TEST(UnusableGpus, ADriverWithoutAGpuIsNoFault) {
  EXPECT_TRUE(errors_of(kNoGpu, 0).empty());
  EXPECT_TRUE(contains(run_with(kNoGpu, {"--version"}).out, "no NVIDIA GPU found"));
  const test::ProgramResult automatic = plan_with(kNoGpu, {});
  EXPECT_EQ(automatic.exit_code, 0) << automatic.err;
  EXPECT_FALSE(contains(automatic.err, "GPU")) << automatic.err;
}

TEST(UnusableGpus, OneTooOldBesideOneThatIsNot) {
  const test::ProgramResult result = run_with({"STUB_GPUS=70,89"}, {"doctor"});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_TRUE(contains(result.out, "cuda:0: Stub GPU is of compute capability 7.0")) << result.out;
  EXPECT_TRUE(contains(result.out, "cuda:1: Stub GPU, 24.00 GiB, compute capability 8.9")) << result.out;
  EXPECT_FALSE(contains(result.out, "cuda:1: Stub GPU is of compute capability")) << result.out;
}

// Planned as for a GPU that need not be usable here.
TEST(UnusableGpus, TuringComputesInFloat16ByDefault) {
  const Arguments for_gpu = {"--device-memory", "24GiB"};
  const auto planned = [&](const Driver& driver, const Arguments& more) {
    Arguments arguments = for_gpu;
    arguments.insert(arguments.end(), more.begin(), more.end());
    const test::ProgramResult result = plan_with(driver, arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const nlohmann::json figures = nlohmann::json::parse(result.out);
    return figures["device"].get<std::string>() + " " + figures["dtype"].get<std::string>();
  };
  EXPECT_EQ(planned({"STUB_GPUS=75"}, {}), "cuda fp16");
  EXPECT_EQ(planned({"STUB_GPUS=75"}, {"--dtype", "bf16"}), "cuda bf16");
  EXPECT_EQ(planned(kAda, {}), "cuda bf16");
  EXPECT_EQ(planned({"STUB_GPUS=75"}, {"--gpu", "4090"}), "cuda bf16") << "that GPU's, and not the one's that is here";
  const std::string report = run_with({"STUB_GPUS=75"}, {"doctor"}).out;
  EXPECT_TRUE(contains(report, "has neither bfloat16 nor LibTorch's flash attention")) << report;
  EXPECT_TRUE(contains(report, "default --dtype is fp16")) << report;
}

}  // namespace
}  // namespace opensora
