// Whole runs, through the library and through the program, against the official pipeline.
#include <gtest/gtest.h>

#include <filesystem>

#include "opensora/error.h"
#include "opensora/generate.h"
#include "support/pipeline_case.h"
#include "support/program.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::Case;
using test::PipelineCase;

class PipelineGolden : public ::testing::TestWithParam<PipelineCase> {};

TEST_P(PipelineGolden, ThroughTheLibrary) {
  const PipelineCase& expected = GetParam();
  const test::TemporaryFolder folder;
  const GenerateResult result = generate(test::pipeline_request(expected.name, folder.path()));
  EXPECT_EQ(result.effective_prompt, Case(expected.name).description()["prompt"]);
  EXPECT_EQ(result.forwards, expected.forwards);
  EXPECT_EQ(result.image_forwards, expected.image_forwards);
  EXPECT_TRUE(std::filesystem::exists(result.output));
  EXPECT_EQ(std::filesystem::exists(result.image), expected.image_forwards > 0);
  test::expect_official_tensors(expected.name, folder.path());
}

// Each kind of flag once.
class ProgramGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(ProgramGolden, IsTheLibrarys) {
  const test::TemporaryFolder folder;
  const test::ProgramResult result =
      test::run_program(test::pipeline_arguments(GetParam(), folder.path()), {.starts_anew = true});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  test::expect_official_tensors(GetParam(), folder.path());
}

INSTANTIATE_TEST_SUITE_P(Cases, PipelineGolden, ::testing::ValuesIn(test::pipeline_cases()),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Cases, ProgramGolden,
                         ::testing::Values("pipeline_t2v_negative", "pipeline_t2v_plain_guidance", "pipeline_i2v_tail",
                                           "pipeline_i2v_loop", "pipeline_v2v_tail_easy", "pipeline_dc_ae_i2v_head",
                                           "pipeline_t2i2v", "pipeline_flux_image"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Pipeline, StoppingLeavesNoFile) {
  const test::TemporaryFolder folder;
  GenerateRequest request = test::pipeline_request("pipeline_t2v", folder.path());
  request.save_tensors.clear();
  for (const std::string stage : {"denoise", "decode", "write"}) {
    const auto stop = [&](const Progress& progress) {
      if (progress.stage == stage && progress.done > 0) throw InterruptedError(2);
    };
    EXPECT_THROW(generate(request, stop), InterruptedError) << stage;
    EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << stage;
  }
}

TEST(Pipeline, KeepingTheModelsChangesNothing) {
  for (const char* name : {"pipeline_t2i2v", "pipeline_i2v_head"}) {
    const test::TemporaryFolder folder;
    GenerateRequest request = test::pipeline_request(name, folder.path());
    request.keep_models = true;
    generate(request);
    test::expect_official_tensors(name, folder.path());
  }
}

TEST(Pipeline, ASeedIsDrawnAndReportedWhereNoneIsGiven) {
  const test::TemporaryFolder folder;
  GenerateRequest request = test::pipeline_request("pipeline_t2i_frame", folder.path());
  request.seed = std::nullopt;
  request.overwrite = true;
  const uint64_t first = generate(request).seed;
  const uint64_t second = generate(request).seed;
  EXPECT_NE(first, second);
}

}  // namespace
}  // namespace opensora
