// The solvers on the demo model, against a thousand of Euler's steps.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "support/program.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

// The relative L2 error of the latent. Without oscillation: with it the guidance depends on the number of steps.
double error_of(const std::string& sampler, int steps) {
  const test::TemporaryFolder folder;
  const std::string video = folder.path() / "video.mp4", latent = folder.path() / "video.latent.safetensors";
  const auto made = test::run_program({"generate",
                                       "--model-dir",
                                       std::string(OPENSORA_CONFIGS) + "/demo",
                                       "-p",
                                       "a red circle moving right on a blue background",
                                       "-s",
                                       "42",
                                       "--guidance",
                                       "7.5",
                                       "--no-text-osci",
                                       "--device",
                                       "cpu",
                                       "--dtype",
                                       "fp32",
                                       "--sampler",
                                       sampler,
                                       "--steps",
                                       std::to_string(steps),
                                       "--keep-latents",
                                       "-o",
                                       video});
  EXPECT_EQ(made.exit_code, 0) << made.err;
  const auto compared = test::run_program(
      {"compare", std::string(OPENSORA_TEST_DATA) + "/cases/demo_in_1000_steps.latent.safetensors", latent, "--json"});
  EXPECT_EQ(compared.exit_code, 0) << compared.err;
  return nlohmann::json::parse(compared.out)["relative_error"];
}

// As measured. Half of the steps suffice UniPC; the two of order 2 gain little where a video has as few.
TEST(SolverGolden, ComesNearAThousandEulerSteps) {
  EXPECT_NEAR(error_of("euler", 50), 0.0372, 0.002);
  EXPECT_NEAR(error_of("euler", 25), 0.0961, 0.005);
  EXPECT_NEAR(error_of("heun", 25), 0.0271, 0.002);
  EXPECT_NEAR(error_of("dpm++2m", 25), 0.0903, 0.005);
  EXPECT_NEAR(error_of("unipc", 25), 0.0321, 0.002);
}

}  // namespace
}  // namespace opensora
