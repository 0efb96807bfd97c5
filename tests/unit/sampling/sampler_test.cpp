// The sampler against its own definition: each step's forwards by themselves, nothing shared between them.
#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "diffusion/sequence.h"
#include "opensora/config.h"
#include "opensora/error.h"
#include "support/fake_recorder.h"
#include "support/reference.h"

namespace opensora {
namespace {

using test::close;

struct Loop {
  const diffusion::MMDiT& model;
  const sampling::SamplerInput& input;

  at::Tensor velocity(const at::Tensor& img, float t, const sampling::TextEmbedding& text,
                      const at::Tensor& cond) const {
    const at::Tensor ids =
        at::cat({diffusion::text_ids(text.txt.size(1)),
                 diffusion::image_ids(input.noise.size(2), input.noise.size(3) / 2, input.noise.size(4) / 2)});
    return model.forward(
        {.img = img, .txt = text.txt, .y_vec = text.vec, .timesteps = at::full({1}, t), .cond = cond, .guidance = {}},
        diffusion::rotary_embedding(ids, model.config));
  }

  at::Tensor run() const {
    at::Tensor img = diffusion::pack(input.noise, 2);
    at::Tensor cond = input.condition.defined() ? diffusion::pack(input.condition, 2) : at::Tensor();
    const size_t steps = input.timesteps.size() - 1;
    for (size_t i = 0; i < steps; ++i) {
      const auto step = static_cast<int64_t>(i);
      const double text = sampling::oscillating_scale(input.guidance.text, step, input.guidance.text_osci);
      const double image = sampling::oscillating_scale(input.guidance.image, step, input.guidance.image_osci);
      const float t = input.timesteps[i];
      const at::Tensor c = velocity(img, t, input.prompt, cond), u = velocity(img, t, input.negative, cond);
      const at::Tensor u2 = velocity(img, t, input.negative, {});
      img = img + (input.timesteps[i + 1] - t) * (u2 + image * (u - u2) + text * (c - u));
    }
    return diffusion::unpack(img, input.noise.size(2), input.noise.size(3) / 2, input.noise.size(4) / 2, 2);
  }
};

sampling::TextEmbedding random_text(const MMDiTConfig& config) {
  return {at::randn({1, 6, config.context_in_dim}), at::randn({1, config.vec_in_dim})};
}

sampling::SamplerInput random_input(const MMDiTConfig& config, int64_t steps, bool has_condition) {
  at::manual_seed(3);
  sampling::SamplerInput input{.noise = at::randn({1, 16, 2, 4, 6}),
                               .prompt = random_text(config),
                               .negative = random_text(config),
                               .condition = has_condition ? at::randn({1, 17, 2, 4, 6}) : at::Tensor(),
                               .timesteps = {},
                               .guidance = {.text = 2.5, .image = 1.5, .text_osci = true, .image_osci = true},
                               .distilled_guidance = {},
                               .on_step = {}};
  for (int64_t i = 0; i <= steps; ++i) {
    input.timesteps.push_back(1 - static_cast<float>(i) / static_cast<float>(steps));
  }
  return input;
}

class Sampler : public ::testing::TestWithParam<std::tuple<int64_t, bool>> {};

TEST_P(Sampler, IsItsStepsOneByOne) {
  const auto [steps, has_condition] = GetParam();
  const MMDiTConfig config = load_config(test::checkpoint_dir() / "tiny.json").model;
  const diffusion::MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), config);
  const sampling::SamplerInput input = random_input(config, steps, has_condition);
  const sampling::SamplerResult result = sampling::sample(model, input, at::kCPU);
  EXPECT_TRUE(close(result.latent, Loop{model, input}.run(), 1e-3, 1e-3));
}

// More steps than the modulations of are computed at once, and fewer.
INSTANTIATE_TEST_SUITE_P(
    Steps, Sampler, ::testing::Combine(::testing::Values(3, 2 * diffusion::kModulationRows / 3 + 7), ::testing::Bool()),
    [](const auto& info) {
      return std::to_string(std::get<0>(info.param)) + (std::get<1>(info.param) ? "Conditioned" : "TextAlone");
    });

// Whatever ended it, in a step or behind one; with a cache what is to be forecast goes on, too.
class SamplerState : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(SamplerState, LetsASamplingGoOnWhereItEnded) {
  constexpr int64_t kSteps = 8;
  const MMDiTConfig config = load_config(test::checkpoint_dir() / "tiny.json").model;
  const diffusion::MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), config);
  sampling::SamplerInput input = random_input(config, kSteps, /*has_condition=*/true);
  const auto [solver, policy] = GetParam();
  input.solver = sampling::parse_solver(solver);
  input.cache = *parse_cache(policy);
  const sampling::SamplerResult whole = sampling::sample(model, input, at::kCPU);
  for (int64_t last = 1; last <= kSteps; ++last) {
    SCOPED_TRACE(last);
    sampling::SamplerState state;
    input.state = &state;
    input.on_step = [&](int64_t step, int64_t) {
      if (step == last) throw OutOfMemoryError("no room");
    };
    EXPECT_THROW(sampling::sample(model, input, at::kCPU), OutOfMemoryError);
    EXPECT_EQ(state.step, last);
    std::vector<int64_t> told;
    input.on_step = [&](int64_t step, int64_t) { told.push_back(step); };
    const sampling::SamplerResult rest = sampling::sample(model, input, at::kCPU);
    EXPECT_EQ(told.size(), static_cast<size_t>(kSteps - last));
    EXPECT_TRUE(close(rest.latent, whole.latent, 1e-5, 1e-5));  // its modulations are a product of fewer rows
    EXPECT_EQ(rest.forwards, whole.forwards);
    EXPECT_EQ(rest.computed, whole.computed);
  }
}

using SolverAndCache = std::pair<const char*, const char*>;
INSTANTIATE_TEST_SUITE_P(SolversAndCaches, SamplerState,
                         ::testing::Values(SolverAndCache{"euler", "none"}, SolverAndCache{"heun", "none"},
                                           SolverAndCache{"dpm++2m", "none"}, SolverAndCache{"unipc", "none"},
                                           SolverAndCache{"euler", "pairs:0.3"},
                                           SolverAndCache{"euler", "steps:1-2,5,8"},
                                           SolverAndCache{"unipc", "steps:1-2,5,8"}),
                         [](const auto& info) { return "Number" + std::to_string(info.index); });

// With one step they are all Euler's.
TEST(SamplerSolver, RunsTheForwardsThatItsEvaluationsNeed) {
  const MMDiTConfig config = load_config(test::checkpoint_dir() / "tiny.json").model;
  const diffusion::MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), config);
  sampling::SamplerInput input = random_input(config, 12, /*has_condition=*/false);  // oscillates from step 10 on
  std::vector<at::Tensor> latents;
  for (const auto& [word, forwards] : {std::pair("euler", 23), {"heun", 45}, {"dpm++2m", 23}, {"unipc", 23}}) {
    input.solver = sampling::parse_solver(word);
    std::vector<int64_t> estimated;
    input.on_estimate = [&](int64_t step, int64_t, const auto& clean) {
      estimated.push_back(step);
      EXPECT_EQ(clean().sizes(), input.noise.sizes());
    };
    const sampling::SamplerResult result = sampling::sample(model, input, at::kCPU);
    EXPECT_EQ(result.forwards, forwards) << word;
    EXPECT_EQ(estimated.size(), 12) << word;
    for (const at::Tensor& other : latents) EXPECT_FALSE(close(result.latent, other, 1e-3, 1e-3)) << word;
    latents.push_back(result.latent);
  }
  input = random_input(config, 1, /*has_condition=*/true);
  const at::Tensor euler = sampling::sample(model, input, at::kCPU).latent;
  for (const char* word : {"heun", "dpm++2m", "unipc"}) {
    input.solver = sampling::parse_solver(word);
    EXPECT_TRUE(close(sampling::sample(model, input, at::kCPU).latent, euler, 1e-5, 1e-5)) << word;
  }
}

// A forecast step replays no graph, and what graphs lend is not kept.
TEST(SamplerCache, IsTheSameWithGraphs) {
  const MMDiTConfig config = load_config(test::checkpoint_dir() / "tiny.json").model;
  const diffusion::MMDiT model(test::reference_weights("Open_Sora_v2.safetensors"), config);
  sampling::SamplerInput input = random_input(config, 14, /*has_condition=*/true);
  input.cache = *parse_cache("steps:1-4,7,11,14");
  const sampling::SamplerResult plain = sampling::sample(model, input, at::kCPU);
  test::FakeRecorder recorder;
  input.graphs = &recorder;
  const sampling::SamplerResult replayed = sampling::sample(model, input, at::kCPU);
  EXPECT_TRUE(at::equal(replayed.latent, plain.latent));
  EXPECT_EQ(replayed.forwards, plain.forwards);
  EXPECT_EQ(replayed.computed, (std::vector<int64_t>{1, 2, 3, 4, 7, 11, 14}));
  EXPECT_GT(replayed.replayed, 0);
  EXPECT_LE(replayed.replayed, replayed.forwards);
}

}  // namespace
}  // namespace opensora
