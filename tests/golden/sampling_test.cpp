// Schedule, guidance, noise and prompt suffixes against the official code's.
#include <gtest/gtest.h>

#include "opensora/config.h"
#include "opensora/error.h"
#include "sampling/condition.h"
#include "sampling/sampler.h"
#include "sampling/size.h"
#include "support/fake_recorder.h"
#include "support/reference.h"
#include "text/prompt.h"

namespace opensora {
namespace {

using test::Case;

nlohmann::json sampling_cases() { return test::read_json(test::reference_dir() / "cases/sampling.json"); }

TEST(SamplingGolden, Schedules) {
  for (const nlohmann::json& row : sampling_cases()["schedules"]) {
    sampling::ScheduleOptions options{.num_steps = row["num_steps"],
                                      .tokens_per_frame = row["image_seq_len"],
                                      .latent_frames = row["num_frames"],
                                      .shift = true,
                                      .flow_shift = std::nullopt};
    if (!row["flow_shift"].is_null()) options.flow_shift = row["flow_shift"].get<double>();
    const std::vector<float> actual = sampling::timesteps(options);
    const std::vector<float> expected = row["timesteps"];
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-6);
  }
}

TEST(SamplingGolden, AnUnshiftedScheduleIsEvenlySpaced) {
  const std::vector<float> t = sampling::timesteps(
      {.num_steps = 4, .tokens_per_frame = 144, .latent_frames = 5, .shift = false, .flow_shift = std::nullopt});
  EXPECT_EQ(t, (std::vector<float>{1.0F, 0.75F, 0.5F, 0.25F, 0.0F}));
}

TEST(SamplingGolden, OscillatingGuidance) {
  const nlohmann::json rows = sampling_cases()["guidance_oscillation"];
  for (size_t step = 0; step < rows.size(); ++step) {
    EXPECT_EQ(sampling::oscillating_scale(7.5, static_cast<int64_t>(step), true), rows[step][0].get<double>());
    EXPECT_EQ(sampling::oscillating_scale(3.0, static_cast<int64_t>(step), true), rows[step][1].get<double>());
    EXPECT_EQ(sampling::oscillating_scale(7.5, static_cast<int64_t>(step), false), 7.5);
  }
}

int forwards_of_fifty_steps(bool has_condition) {
  int forwards = 0;
  for (int64_t step = 0; step < 50; ++step) {
    forwards += sampling::branch_weights(
                    {.text = 7.5, .image = 3.0, .text_osci = true, .image_osci = true, .temporal_osci = has_condition},
                    {.step = step, .steps = 50, .latent_frames = 33, .has_condition = has_condition})
                    .forwards();
  }
  return forwards;
}

// The official code runs 150.
TEST(SamplingGolden, FiftyStepsNeedEightyForwardsAndWithAnImageAHundredAndTen) {
  EXPECT_EQ(forwards_of_fifty_steps(false), 80);
  EXPECT_EQ(forwards_of_fifty_steps(true), 110);
}

TEST(SamplingGolden, PromptSuffixes) {
  for (const nlohmann::json& row : sampling_cases()["prompt_suffix"]) {
    EXPECT_EQ(text::add_suffixes(row["text"], row["fps"], row["motion_score"].get<std::string>()), row["out"]);
  }
  EXPECT_EQ(text::add_suffixes("a cat", 24, std::nullopt), "a cat. 24 FPS.");
}

TEST(SamplingGolden, NoiseIsBitEqual) {
  for (const char* name : {"pipeline_t2v", "pipeline_t2i_frame"}) {
    const at::Tensor expected = Case(name).raw("noise");
    const at::Tensor actual = sampling::make_noise({.channels = expected.size(1),
                                                    .frames = expected.size(2),
                                                    .height = expected.size(3),
                                                    .width = expected.size(4)},
                                                   42);
    EXPECT_TRUE(at::equal(actual, expected)) << name;
  }
}

TEST(SamplingGolden, TextToImageSizes) {
  for (const nlohmann::json& row : sampling_cases()["sizes"]) {
    if (row["ae_spatial_compression"] != 16) continue;
    const char* prefix = row["training_height"].is_null() ? "" : "training_";
    const PixelSize expected{row[std::string(prefix) + "width"], row[std::string(prefix) + "height"]};
    EXPECT_EQ(sampling::text_to_image_size(row["resolution"], row["aspect_ratio"]), expected) << row;
  }
}

TEST(SamplingGolden, NearestAspectRatio) {
  EXPECT_EQ(sampling::nearest_aspect_ratio({336, 192}), "16:9");
  EXPECT_EQ(sampling::nearest_aspect_ratio({64, 64}), "1:1");
  EXPECT_EQ(sampling::nearest_aspect_ratio({192, 336}), "9:16");
}

// In text to video the official third branch equals the second: it is not run.
TEST(SamplingGolden, WithoutAConditionTwoBranchesAreEqual) {
  const at::Tensor pred = Case("pipeline_t2v")["first_pred"];  // prompt, negative, negative without condition
  EXPECT_TRUE(at::equal(pred[1], pred[2]));
}

TEST(Condition, MarksTheFramesThatAreGiven) {
  using sampling::ConditionType;
  const sampling::LatentShape shape{.channels = 2, .frames = 11, .height = 1, .width = 1};
  const auto mask_of = [&](ConditionType type, const std::vector<at::Tensor>& references) {
    const at::Tensor condition = sampling::make_condition(type, references, shape);
    std::string mask;
    for (int64_t t = 0; t < shape.frames; ++t) mask += condition[0][0][t].item<float>() == 1 ? '1' : '0';
    return mask;
  };
  const at::Tensor one = at::ones({1, 2, 1, 1, 1}), nine = at::ones({1, 2, 9, 1, 1});
  EXPECT_EQ(mask_of(ConditionType::kI2VHead, {one}), "10000000000");
  EXPECT_EQ(mask_of(ConditionType::kI2VTail, {one}), "00000000001");
  EXPECT_EQ(mask_of(ConditionType::kI2VLoop, {one, one}), "10000000001");
  EXPECT_EQ(mask_of(ConditionType::kV2VHead, {nine}), "11111111100");
  EXPECT_EQ(mask_of(ConditionType::kV2VTail, {nine}), "00111111111");
  EXPECT_FALSE(sampling::make_condition(ConditionType::kT2V, {}, shape).defined());
  EXPECT_THROW(sampling::check_condition_length(ConditionType::kV2VHead, 33, 4), UsageError);
  EXPECT_THROW(sampling::parse_condition_type("v2v_head_half"), UsageError);
}

TEST(Sampler, NotFiniteStopsTheRun) {
  const Config config = load_config(test::checkpoint_dir() / "tiny.json");
  const diffusion::MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), config.model);
  const sampling::TextEmbedding text{.txt = at::zeros({1, 4, 32}), .vec = at::zeros({1, 32})};
  const at::Tensor noise = at::full({1, 16, 1, 4, 4}, std::numeric_limits<float>::quiet_NaN());
  const sampling::SamplerInput input{.noise = noise,
                                     .prompt = text,
                                     .negative = text,
                                     .condition = {},
                                     .timesteps = {1.0F, 0.0F},
                                     .guidance = {},
                                     .distilled_guidance = {},
                                     .on_step = {}};
  EXPECT_THROW(sampling::sample(model, input, at::kCPU), NumericError);
}

// Six steps with three branches, of which the replayed forwards must see the right time, text and condition.
TEST(Sampler, ReplayedForwardsMakeTheSameLatent) {
  const Config config = load_config(test::checkpoint_dir() / "tiny.json");
  const diffusion::MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), config.model);
  at::manual_seed(3);
  const auto text = [] { return sampling::TextEmbedding{.txt = at::randn({1, 4, 32}), .vec = at::randn({1, 32})}; };
  sampling::SamplerInput input{.noise = at::randn({1, 16, 3, 4, 4}),
                               .prompt = text(),
                               .negative = text(),
                               .condition = at::randn({1, 17, 3, 4, 4}),
                               .timesteps = {1.0F, 0.9F, 0.7F, 0.5F, 0.3F, 0.1F, 0.0F},
                               .guidance = {.text = 7.5, .image = 3, .text_osci = true, .image_osci = true},
                               .distilled_guidance = {},
                               .on_step = {}};
  const sampling::SamplerResult plain = sampling::sample(model, input, at::kCPU);
  test::FakeRecorder recorder;
  input.graphs = &recorder;
  const sampling::SamplerResult replayed = sampling::sample(model, input, at::kCPU);
  EXPECT_TRUE(at::equal(replayed.latent, plain.latent));
  EXPECT_EQ(plain.replayed, 0);
  EXPECT_GE(recorder.recorded, 2);
  EXPECT_EQ(replayed.replayed, replayed.forwards - 2 * recorder.recorded);  // each branch's first two are not
  EXPECT_FALSE(replayed.dropped_graphs);
  EXPECT_FALSE(replayed.needless_graphs);

  test::FakeRecorder unused;
  input.graphs = &unused;
  input.graph_trial = [](const std::string&, const std::function<void()>& work) {
    work();
    return false;
  };
  const sampling::SamplerResult tried = sampling::sample(model, input, at::kCPU);
  EXPECT_TRUE(at::equal(tried.latent, plain.latent));
  EXPECT_EQ(unused.recorded, 0);
  EXPECT_EQ(tried.replayed, 0);
  EXPECT_TRUE(tried.needless_graphs);
}

}  // namespace
}  // namespace opensora
