// Whole text-to-video runs, through the library, against the official pipeline.
#include <gtest/gtest.h>

#include <filesystem>

#include "opensora/error.h"
#include "opensora/generate.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::Case;
using test::close;

GenerateRequest request_of(const nlohmann::json& description, const std::filesystem::path& folder) {
  GenerateRequest request;
  request.prompt = description["user_prompt"];
  if (!description["negative"].is_null()) request.negative_prompt = description["negative"][0];
  request.model_dir = test::checkpoint_dir();
  request.config = load_config(test::checkpoint_dir() / "tiny.json");
  const nlohmann::json& options = description["options"];
  SamplingConfig& s = request.config.sampling;
  s.resolution = s.aspect_ratio = std::nullopt;
  s.height = options["height"];
  s.width = options["width"];
  s.num_frames = options["num_frames"];
  s.num_steps = options["num_steps"];
  s.text_osci = options["text_osci"];
  s.image_osci = options["image_osci"];
  s.scale_temporal_osci = options["scale_temporal_osci"];
  request.seed = description["seed"];
  request.device = "cpu";
  request.output = folder / (s.num_frames == 1 ? "out.png" : "out.mp4");
  request.save_tensors = folder / "tensors.safetensors";
  return request;
}

class PipelineGolden : public ::testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(PipelineGolden, Agrees) {
  const auto [name, forwards] = GetParam();
  const Case reference(name);
  const test::TemporaryFolder folder;
  const nlohmann::json description = reference.description();
  const GenerateResult result = generate(request_of(description, folder.path()));

  const io::SafetensorsFile saved(folder.path() / "tensors.safetensors");
  EXPECT_EQ(result.effective_prompt, description["prompt"]);
  EXPECT_TRUE(at::equal(saved.tensor("noise"), reference.raw("noise")));
  EXPECT_TRUE(close(saved.tensor("latent"), reference["latent"], 2e-3, 0));
  EXPECT_TRUE(close(saved.tensor("video"), reference["video"], 5e-3, 0));
  EXPECT_EQ(result.forwards, forwards);
  EXPECT_TRUE(std::filesystem::exists(result.output));
}

// 14 steps: 10 of two branches, then 2 of one and 2 of two.
INSTANTIATE_TEST_SUITE_P(Cases, PipelineGolden,
                         ::testing::Values(std::pair("pipeline_t2v", 26), std::pair("pipeline_t2v_negative", 8),
                                           std::pair("pipeline_t2v_plain_guidance", 8),
                                           std::pair("pipeline_t2i_frame", 8)),
                         [](const auto& info) { return std::string(info.param.first); });

TEST(Pipeline, StoppingLeavesNoFile) {
  const test::TemporaryFolder folder;
  const GenerateRequest request = request_of(Case("pipeline_t2v").description(), folder.path());
  for (const std::string stage : {"denoise", "decode", "write"}) {
    const auto stop = [&](const Progress& progress) {
      if (progress.stage == stage && progress.done > 0) throw InterruptedError(2);
    };
    GenerateRequest without_tensors = request;
    without_tensors.save_tensors.clear();
    EXPECT_THROW(generate(without_tensors, stop), InterruptedError) << stage;
    EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << stage;
  }
}

TEST(Pipeline, ASeedIsDrawnAndReportedWhereNoneIsGiven) {
  const test::TemporaryFolder folder;
  GenerateRequest request = request_of(Case("pipeline_t2i_frame").description(), folder.path());
  request.seed = std::nullopt;
  request.overwrite = true;
  const uint64_t first = generate(request).seed;
  const uint64_t second = generate(request).seed;
  EXPECT_NE(first, second);
}

}  // namespace
}  // namespace opensora
