// The solvers on flows whose solution is known.
#include "sampling/solver.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "opensora/error.h"
#include "support/reference.h"

namespace opensora::sampling {
namespace {

constexpr std::array kSolvers = {"euler", "heun", "dpm++2m", "unipc"};

// The exact velocity of a flow from noise to numbers that are normally distributed: E[noise - x0 | x].
struct Normal {
  double mean, deviation;

  double variance(double t) const { return (1 - t) * (1 - t) * deviation * deviation + t * t; }
  at::Tensor velocity(const at::Tensor& x, double t) const {
    const double slope = (t - (1 - t) * deviation * deviation) / variance(t);
    return slope * (x - (1 - t) * mean) - mean;
  }
  // Where the flow that begins at this noise is at t.
  at::Tensor solution(const at::Tensor& noise, double t) const {
    return (1 - t) * mean + std::sqrt(variance(t)) * noise;
  }
};

constexpr Normal kPrompt{.mean = 0.8, .deviation = 0.3}, kNone{.mean = 0.1, .deviation = 0.6};

at::Tensor noise() { return at::tensor({-1.7, -0.6, 0.1, 0.4, 2.3}, at::kDouble); }

at::Tensor prompt_velocity(const at::Tensor& x, double t, bool /*lowered*/) { return kPrompt.velocity(x, t); }

at::Tensor guided_velocity(const at::Tensor& x, double t, bool lowered) {
  const at::Tensor v = kPrompt.velocity(x, t), u = kNone.velocity(x, t);
  return lowered ? v : u + 3 * (v - u);
}

struct Flow {
  double begin = 1, end = 0;
  int64_t steps = 50;
  bool alternates = false;  // every second step is lowered

  std::vector<bool> lowered() const {
    std::vector<bool> each;
    for (int64_t i = 0; i < steps; ++i) each.push_back(alternates && i % 2 == 1);
    return each;
  }
  std::vector<float> timesteps() const {
    std::vector<float> times;
    for (int64_t i = 0; i <= steps; ++i) {
      times.push_back(static_cast<float>(begin + (end - begin) * static_cast<double>(i) / static_cast<double>(steps)));
    }
    return times;
  }
};

using Velocity = at::Tensor (*)(const at::Tensor& x, double t, bool lowered);

at::Tensor solve(const std::string& word, const std::vector<float>& times, const std::vector<bool>& lowered,
                 at::Tensor x, Velocity velocity) {
  const SolverKind kind = parse_solver(word);
  const Solver solver(kind, times, lowered);
  SolverUpdate at{.x = std::move(x), .history = {}};
  for (const Evaluation& e : evaluations(kind, static_cast<int64_t>(lowered.size()))) {
    at = solver.advance(e, at.x, velocity(at.x, times[e.time], lowered[e.step]), at.history);
  }
  return at.x;
}

at::Tensor solve(const std::string& word, const Flow& flow, at::Tensor x, Velocity velocity) {
  return solve(word, flow.timesteps(), flow.lowered(), std::move(x), velocity);
}

double error_of(const std::string& word, const Flow& flow) {
  const at::Tensor x = solve(word, flow, kPrompt.solution(noise(), flow.begin), prompt_velocity);
  return (x - kPrompt.solution(noise(), flow.end)).abs().max().item<double>();
}

// How many times twice as many steps halve the error.
double order_of(const std::string& word, double begin, double end) {
  return std::log2(error_of(word, {.begin = begin, .end = end, .steps = 50}) /
                   error_of(word, {.begin = begin, .end = end, .steps = 100}));
}

// Towards both ends steps are long in lambda, however many there are, which takes multistep solvers some of their
// order.
TEST(Solver, HasItsOrder) {
  EXPECT_NEAR(order_of("euler", 0.9, 0.1), 1, 0.1);
  EXPECT_NEAR(order_of("heun", 0.9, 0.1), 2, 0.1);
  EXPECT_NEAR(order_of("dpm++2m", 0.9, 0.1), 2, 0.1);
  EXPECT_NEAR(order_of("unipc", 0.9, 0.1), 3, 0.2);
  EXPECT_NEAR(order_of("euler", 1, 0), 1, 0.1);
  EXPECT_NEAR(order_of("heun", 1, 0), 2, 0.1);
  EXPECT_NEAR(order_of("dpm++2m", 1, 0), 1.5, 0.2);
  EXPECT_NEAR(order_of("unipc", 1, 0), 1.9, 0.2);
}

// Half of Euler's forwards give a smaller error.
TEST(Solver, OfHigherOrderNeedsFewerForwards) {
  const double euler = error_of("euler", {.steps = 50});
  for (const char* word : {"heun", "dpm++2m", "unipc"}) {
    const int64_t steps = std::string(word) == "heun" ? 13 : 25;
    EXPECT_EQ(evaluations(parse_solver(word), steps).size(), 25) << word;
    EXPECT_LT(error_of(word, {.steps = steps}), 0.8 * euler) << word;
  }
}

// Two guidances that each predict a clean latent of their own are followed in straight lines: a look back at a step of
// the other one would find a slope where none is.
TEST(Solver, LooksBackAtStepsOfTheSameGuidance) {
  const Flow flow{.steps = 20, .alternates = true};
  const auto straight = +[](const at::Tensor& x, double t, bool lowered) { return (x - (lowered ? 0.2 : 0.9)) / t; };
  const at::Tensor euler = solve("euler", flow, noise(), straight);
  for (const char* word : {"heun", "dpm++2m", "unipc"}) {
    EXPECT_TRUE(test::close(solve(word, flow, noise(), straight), euler, 1e-6, 1e-6)) << word;
  }
}

TEST(Solver, ComesNearerThanEulerWhereGuidanceAlternates) {
  const Flow flow{.steps = 50, .alternates = true};
  const std::vector<float> times = flow.timesteps();
  at::Tensor exact = noise();  // each step in many, of its guidance
  for (int64_t i = 0; i < flow.steps; ++i) {
    const Flow step{.begin = times[i], .end = times[i + 1], .steps = 100};
    const auto always_guided = +[](const at::Tensor& x, double t, bool) { return guided_velocity(x, t, false); };
    exact = solve("heun", step, exact, i % 2 == 1 ? prompt_velocity : always_guided);
  }
  const auto error = [&](const char* word) {
    return (solve(word, flow, noise(), guided_velocity) - exact).abs().max().item<double>();
  };
  EXPECT_LT(error("heun"), 0.1 * error("euler"));
  EXPECT_LT(error("dpm++2m"), 0.6 * error("euler"));
  EXPECT_LT(error("unipc"), 0.6 * error("euler"));
}

// Of the methods multistep_dpm_solver_second_order_update() of diffusers' DPMSolverMultistepScheduler, and
// multistep_uni_p_bh_update() and multistep_uni_c_bh_update() of its UniPCMultistepScheduler (bh2, order 2), run over
// the same steps in double precision; the last step as of order 1.
TEST(Solver, AgreesWithDiffusers) {
  const std::vector<std::pair<std::string, at::Tensor>> expected = {
      {"dpm++2m", at::tensor({0.3037833635, 0.6189324944, 0.8194819414, 0.9054317043, 1.4497802032}, at::kDouble)},
      {"unipc", at::tensor({0.3005430212, 0.6177501062, 0.8196091603, 0.9061201835, 1.4540233303}, at::kDouble)}};
  std::vector<float> times;
  for (int i = 0; i < 12; ++i) times.push_back(static_cast<float>(0.96 - 0.92 * i / 12));
  times.push_back(0);
  for (const auto& [word, latent] : expected) {
    const at::Tensor x = solve(word, times, std::vector<bool>(12, false), noise(), prompt_velocity);
    EXPECT_LT((x - latent).abs().max().item<double>(), 1e-9) << word;
  }
}

TEST(Solver, HeunEvaluatesEachStepButTheLastTwice) {
  std::string order;
  for (const Evaluation& e : evaluations(SolverKind::kHeun, 3)) {
    order += std::to_string(e.step) + "@" + std::to_string(e.time) + (e.ends_step ? ". " : " ");
  }
  EXPECT_EQ(order, "0@0 0@1. 1@1 1@2. 2@2. ");
}

TEST(Solver, IsOneOfFour) {
  for (const char* word : kSolvers) EXPECT_NO_THROW(parse_solver(word));
  EXPECT_THROW(parse_solver("dpm"), UsageError);
}

}  // namespace
}  // namespace opensora::sampling
