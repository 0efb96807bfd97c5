// The official pipelines on the simulated device, wherever the weights are.
#include <gtest/gtest.h>

#include "simulated/simulated_test.h"
#include "support/pipeline_case.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

struct OffloadedCase {
  test::PipelineCase pipeline;
  const char* offload;
};

void PrintTo(const OffloadedCase& offloaded, std::ostream* stream) {
  *stream << offloaded.pipeline.name << " " << offloaded.offload;
}

// Each pipeline once, the values of --offload in turn, and the quick ones with all of them.
std::vector<OffloadedCase> offloaded_cases() {
  constexpr const char* kOffloads[] = {"none", "block", "model"};
  std::vector<OffloadedCase> cases;
  for (size_t i = 0; i < test::pipeline_cases().size(); ++i) {
    const test::PipelineCase& pipeline = test::pipeline_cases()[i];
    const std::string& name = pipeline.name;
    const bool is_quick = name == "pipeline_t2i_frame" || name == "pipeline_dc_ae_t2v" || name == "pipeline_flux_image";
    for (size_t k = 0; k < std::size(kOffloads); ++k) {
      if (is_quick || k == i % std::size(kOffloads)) cases.push_back({pipeline, kOffloads[k]});
    }
  }
  return cases;
}

class SimulatedPipelines : public test::SimulatedTest, public ::testing::WithParamInterface<OffloadedCase> {};

TEST_P(SimulatedPipelines, MakeTheOfficialTensors) {
  const auto& [pipeline, offload] = GetParam();
  const test::TemporaryFolder folder;
  GenerateRequest request = test::pipeline_request(pipeline.name, folder.path());
  request.device = test::kSimulated;
  request.dtype = "fp32";
  request.offload = offload;
  const GenerateResult result = generate(request);
  EXPECT_EQ(result.forwards, pipeline.forwards);
  EXPECT_EQ(result.image_forwards, pipeline.image_forwards);
  EXPECT_GT(result.peak_device_bytes, 0);
  EXPECT_TRUE(std::filesystem::exists(result.output));
  test::expect_official_tensors(pipeline.name, folder.path());
}

INSTANTIATE_TEST_SUITE_P(Cases, SimulatedPipelines, ::testing::ValuesIn(offloaded_cases()),
                         [](const auto& info) { return info.param.pipeline.name + "_" + info.param.offload; });

}  // namespace
}  // namespace opensora
