// What a run does to the device, as numbers.
#include <gtest/gtest.h>

#include <vector>

#include "simulated/simulated_test.h"
#include "support/pipeline_case.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::simulated::Counters;

struct CountedRun {
  const char *pipeline, *offload;
  const char *sampler = "euler", *name = "";  // of the sampler, in the test's
};

class SimulatedCounters : public test::SimulatedTest, public ::testing::WithParamInterface<CountedRun> {
 protected:
  static constexpr int64_t kSteps = 5;

  GenerateRequest request(const test::TemporaryFolder& folder) const {
    GenerateRequest request = test::pipeline_request(GetParam().pipeline, folder.path());
    request.config.sampling.num_steps = kSteps;
    request.device = test::kSimulated;
    request.dtype = "fp32";
    request.offload = GetParam().offload;
    request.sampler = GetParam().sampler;
    return request;
  }
  // After so many steps more a sampler's history takes no more memory.
  size_t remembered_steps() const { return GetParam().sampler == std::string("euler") ? 1 : 3; }
  bool streams() const { return GetParam().offload == std::string("block"); }
};

// The first step computes the modulations of all steps, and takes what memory they need.
TEST_P(SimulatedCounters, AStepWaitsOnceAndTakesNothingNew) {
  const test::TemporaryFolder folder;
  const std::vector<Counters> steps = test::counters_by_step(request(folder));
  ASSERT_EQ(steps.size(), kSteps);
  for (size_t i = 1; i < steps.size(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i + 1));
    const Counters &before = steps[i - 1], &after = steps[i];
    EXPECT_LE(after.thread_synchronizations - before.thread_synchronizations, 1) << "the sampler's own";
    EXPECT_EQ(after.bytes_to_host - before.bytes_to_host, 1) << "whether the latent is finite";
    if (i > remembered_steps()) {
      EXPECT_EQ(after.device_allocations, before.device_allocations) << "the cache should serve all";
    }
    if (!streams()) EXPECT_EQ(after.bytes_to_device, before.bytes_to_device);
    EXPECT_GT(after.kernels, before.kernels);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Runs, SimulatedCounters,
    ::testing::Values(CountedRun{"pipeline_t2v", "none"}, CountedRun{"pipeline_t2v", "block"},
                      CountedRun{"pipeline_i2v_head", "model"}, CountedRun{"pipeline_i2v_loop", "block"},
                      CountedRun{"pipeline_dc_ae_t2v", "model"}, CountedRun{"pipeline_t2v", "none", "heun", "_heun"},
                      CountedRun{"pipeline_t2v", "none", "dpm++2m", "_dpm"},
                      CountedRun{"pipeline_t2v", "none", "unipc", "_unipc"}),
    [](const auto& info) { return std::string(info.param.pipeline) + "_" + info.param.offload + info.param.name; });

}  // namespace
}  // namespace opensora
