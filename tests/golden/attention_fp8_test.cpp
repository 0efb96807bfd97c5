// Attention in 8 bits, emulated, in every layer of the transformers on the official code's inputs; and which forwards
// of a sampling have it.
#include "nn/attention_fp8.h"

#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "diffusion/mmdit.h"
#include "diffusion/sequence.h"
#include "models/model_set.h"
#include "opensora/config.h"
#include "run/checkpoints.h"
#include "run/job.h"
#include "run/stage_work.h"
#include "run/video_stages.h"
#include "sampling/sampler.h"
#include "support/fake_recorder.h"
#include "support/log_capture.h"
#include "support/reference.h"

namespace opensora {
namespace {

using nn::Fp8Attention;
using test::Case;

// Each layer's inputs are what the exact attention of the layers before it made.
void expect_agreement(const std::string& name, const std::string& file, const std::string& config_file) {
  const Case reference(name);
  const MMDiTConfig config = load_config(test::checkpoint_dir() / config_file).model;
  const diffusion::MMDiT model(test::reference_weights(file), config);
  const at::Tensor img = reference["in.img"], txt = model.embed_text(reference["in.txt"]);
  const diffusion::Modulations mods = model.modulations(model.embed_vector({.img = img,
                                                                            .txt = txt,
                                                                            .y_vec = reference["in.y_vec"],
                                                                            .timesteps = reference["in.timesteps"],
                                                                            .cond = {},
                                                                            .guidance = {}}));
  const at::Tensor ids = at::cat({reference["in.txt_ids"][0], reference["in.img_ids"][0]});
  const auto run = [&](Fp8Attention* attention) {
    return model.forward(
        {.img = img, .txt = txt, .cond = reference["in.cond"], .modulations = mods, .fp8_attention = attention},
        diffusion::rotary_embedding(ids, config), model.workspace(img.size(0), txt.size(1) + img.size(1), at::kCPU));
  };
  Fp8Attention attention(nn::emulated_fp8_attention, config.depth + config.depth_single_blocks, {.first = 0, .end = 1});
  const at::Tensor exact = run(nullptr);
  EXPECT_TRUE(at::equal(run(&attention), exact)) << "the forward that compares is exact";
  attention.settle();
  for (const nn::Fp8Agreement& layer : attention.agreements()) EXPECT_GE(layer.cosine, 0.999) << name;
  EXPECT_EQ(attention.layers_in_8_bits(), config.depth + config.depth_single_blocks);
  const double error = test::relative_error(run(&attention), exact);
  EXPECT_LT(error, 0.02) << name;
  EXPECT_GT(error, 0) << "it was not used: " << name;
}

TEST(Fp8AttentionGolden, EveryLayerAgrees) {
  expect_agreement("mmdit", "Open_Sora_v2.safetensors", "tiny.json");
  expect_agreement("mmdit_dc_ae", "Open_Sora_v2_Video_DC_AE.safetensors", "tiny_high_compression.json");
}

// Twelve steps with three branches, all of them in most steps.
class Fp8Sampling : public ::testing::Test {
 protected:
  static constexpr int64_t kSteps = 12;

  Fp8Sampling() {
    at::manual_seed(3);
    const auto text = [] { return sampling::TextEmbedding{.txt = at::randn({1, 4, 32}), .vec = at::randn({1, 32})}; };
    input_ = {.noise = at::randn({1, 16, 3, 4, 4}),
              .prompt = text(),
              .negative = text(),
              .condition = at::randn({1, 17, 3, 4, 4}),
              .timesteps = sampling::timesteps({.num_steps = kSteps, .shift = false, .flow_shift = {}}),
              .guidance = {.text = 7.5, .image = 3, .text_osci = true, .image_osci = true},
              .distilled_guidance = {},
              .on_step = {}};
  }

  at::Tensor sample(Fp8Attention* attention, GraphRecorder* graphs = nullptr) {
    input_.fp8_attention = attention;
    input_.graphs = graphs;
    const sampling::SamplerResult result = sampling::sample(model_, input_, at::kCPU);
    forwards_ = result.forwards;
    return result.latent;
  }

  const diffusion::MMDiT model_{test::reference_weights("Open_Sora_v2.safetensors"),
                                load_config(test::checkpoint_dir() / "tiny.json").model};
  sampling::SamplerInput input_;
  int64_t forwards_ = 0;
};

TEST_F(Fp8Sampling, FirstAndLastStepsAreExact) {
  const test::LogCapture log;
  std::vector<int64_t> calls(kSteps, 0);  // of the kernel, by step
  int64_t step = 0;
  input_.on_step = [&](int64_t done, int64_t) { step = done; };
  const auto counts = [&](const nn::Fp8Operands& x, double scale) {
    ++calls.at(step);
    return nn::emulated_fp8_attention(x, scale);
  };
  const int64_t layers = model_.config.depth + model_.config.depth_single_blocks;
  const at::Tensor exact = sample(nullptr);
  Fp8Attention attention(counts, layers, nn::fp8_steps(kSteps));
  const at::Tensor latent = sample(&attention);
  for (int64_t i = 0; i < kSteps; ++i) {
    const bool may = i >= 2 && i < kSteps - 1;
    EXPECT_EQ(calls[i], may ? 3 * layers : 0) << "step " << i + 1;
  }
  const double error = test::relative_error(latent, exact);
  EXPECT_LT(error, 0.02);
  EXPECT_GT(error, 0);
}

TEST_F(Fp8Sampling, ABadKernelLeavesTheLatentAsItIs) {
  const test::LogCapture log;
  const auto doubled = [](const nn::Fp8Operands& x, double scale) {
    return nn::emulated_fp8_attention(x, scale).to(at::kFloat) * 2;
  };
  Fp8Attention attention(doubled, model_.config.depth + model_.config.depth_single_blocks, nn::fp8_steps(kSteps));
  EXPECT_TRUE(at::equal(sample(&attention), sample(nullptr)));
  EXPECT_EQ(attention.layers_in_8_bits(), 0);
}

// Exact and 8-bit forwards are graphs of their own, and the one that compares is none.
TEST_F(Fp8Sampling, ReplayedForwardsMakeTheSameLatent) {
  const test::LogCapture log;
  const int64_t layers = model_.config.depth + model_.config.depth_single_blocks;
  Fp8Attention plain(nn::emulated_fp8_attention, layers, nn::fp8_steps(kSteps));
  const at::Tensor expected = sample(&plain);
  test::FakeRecorder recorder;
  Fp8Attention attention(nn::emulated_fp8_attention, layers, nn::fp8_steps(kSteps));
  EXPECT_TRUE(at::equal(sample(&attention, &recorder), expected));
  EXPECT_EQ(recorder.recorded, 6) << "three branches, exact and in 8 bits";
}

// The demo model's sampling of a prompt, up to the latent.
class DemoSampling {
 public:
  DemoSampling(const std::string& prompt, uint64_t seed, int64_t frames) {
    GenerateRequest request;
    request.prompt = prompt;
    request.model_dir = std::filesystem::path(OPENSORA_CONFIGS) / "demo";
    request.config = load_config(request.model_dir / "config.json");
    request.config.sampling.num_frames = frames;
    request.seed = seed;
    request.device = "cpu";
    request.dtype = "fp32";
    const c10::InferenceMode inference;
    job_ = run::make_job(request);
    models_.emplace(models::choice_of(request), run::set_options(job_));
    run::Job* const job = &job_;
    run::encode_video_texts({&job, 1}, *models_);
  }

  at::Tensor latent(Fp8Attention* attention) {
    const c10::InferenceMode inference;
    const run::StageClock clock{at::kCPU, {}};
    sampling::SamplerInput input = run::video_input(job_, clock);
    input.fp8_attention = attention;
    return sampling::sample(*models_->transformer(), input, at::kCPU).latent;
  }

  Fp8Attention attention() const {
    return {nn::emulated_fp8_attention, job_.request.config.model.blocks(), run::fp8_steps(job_)};
  }

 private:
  run::Job job_;
  std::optional<models::ModelSet> models_;
};

TEST(Fp8AttentionDemo, TheLatentIsClose) {
  const test::LogCapture log;
  DemoSampling sampling("a red circle moving right on a black background", 1, /*frames=*/17);
  Fp8Attention attention = sampling.attention();
  const double error = test::relative_error(sampling.latent(&attention), sampling.latent(nullptr));
  EXPECT_LT(error, 0.02);
  EXPECT_GT(error, 1e-5) << "it was not used";
  EXPECT_GE(attention.layers_in_8_bits(), 2) << "half of its eight layers pass, as its heads are narrow";
}

}  // namespace
}  // namespace opensora
