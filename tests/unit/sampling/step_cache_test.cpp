// Step caching without a model: how policies are said, what they compute, and what is forecast of a known velocity.
#include "sampling/step_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "opensora/error.h"
#include "sampling/sampler.h"
#include "support/contains.h"
#include "support/reference.h"

namespace opensora::sampling {
namespace {

TEST(CachePolicyText, ComesBackAsItWasGiven) {
  for (const char* text : {"none", "pairs:0.04", "pairs:0.125", "pairs:1", "steps:1", "steps:1-6,8,12-13,50"}) {
    const std::optional<CachePolicy> policy = parse_cache(text);
    ASSERT_TRUE(policy) << text;
    EXPECT_EQ(cache_text(*policy), text);
    EXPECT_EQ(policy->is_on(), std::string(text) != "none");
  }
  EXPECT_EQ(parse_cache("pairs")->threshold, kDefaultCacheThreshold);
  EXPECT_EQ(cache_text(*parse_cache("steps:1,2,3,7,8")), "steps:1-3,7-8");
}

TEST(CachePolicyText, IsRefusedWhereItIsNone) {
  for (const char* text :
       {"",         "nothing",  "pairs:",    "pairs:0",    "pairs:-1",  "pairs:1.5",     "pairs:nan",
        "pairs:x",  "pairs0.1", "steps",     "steps:",     "steps:2,3", "steps:1,1",     "steps:1,3,2",
        "steps:1-", "steps:-3", "steps:3-1", "steps:1,,3", "steps:1,x", "steps:1,100000"}) {
    EXPECT_FALSE(parse_cache(text)) << text;
  }
}

// The official schedules: guidance oscillates from step 10 on.
StepSchedule oscillating(int64_t steps, int guided) {
  StepSchedule schedule{.timesteps = timesteps({.num_steps = steps, .tokens_per_frame = 16, .latent_frames = 9}),
                        .branches = {}};
  for (int64_t i = 0; i < steps; ++i) schedule.branches.push_back(i >= 10 && i % 2 == 1 ? 1 : guided);
  return schedule;
}

TEST(ComputedSteps, AreAllWithoutACacheAndThoseOfAList) {
  const StepSchedule schedule = oscillating(50, 2);
  EXPECT_EQ(count_forwards(schedule, computed_steps({}, schedule, typical_changes())), 80);
  EXPECT_EQ(count_forwards(oscillating(50, 3), computed_steps({}, oscillating(50, 3), typical_changes())), 110);
  const CachePolicy list = *parse_cache("steps:1-6,11,12,50");
  EXPECT_EQ(count_forwards(schedule, computed_steps(list, schedule, typical_changes())), 6 * 2 + 2 + 1 + 1);
}

// Whatever the threshold: the first ones and the last are, and no other step of one branch.
TEST(ComputedSteps, AreInPairs) {
  for (const double threshold : {1e-9, 0.01, 0.04, 0.2, 1.0}) {
    const StepSchedule schedule = oscillating(50, 2);
    const std::vector<bool> computed =
        computed_steps({.threshold = threshold, .steps = {}}, schedule, typical_changes());
    for (int64_t i = 0; i < 50; ++i) {
      const bool is_always = i < warm_up_steps(50) || i == 49;
      if (is_always) EXPECT_TRUE(computed[i]) << i;
      if (!is_always && !schedule.is_guided(i)) EXPECT_FALSE(computed[i]) << i;
      if (threshold == 1e-9 && schedule.is_guided(i)) EXPECT_TRUE(computed[i]) << i;
    }
  }
}

// An image's guidance that is as strong as the text's leaves the negative prompt out, but in steps where oscillation
// lowers one of them.
TEST(ComputedSteps, AreAllUntilThereIsSomethingToForecastFrom) {
  StepSchedule schedule = oscillating(50, 2);
  for (int64_t i = 11; i < 50; i += 2) schedule.branches[i] = 3;
  const std::vector<bool> computed = computed_steps({.threshold = 1, .steps = {}}, schedule, typical_changes());
  EXPECT_EQ(std::count(computed.begin(), computed.begin() + 12, true), 12);
  EXPECT_EQ(std::count(computed.begin() + 12, computed.end(), true), 1);
}

TEST(StepsForSpeed, AreAsManyAsItAllows) {
  for (const int64_t steps : {20, 30, 50, 100}) {
    for (const int guided : {2, 3}) {
      const StepSchedule schedule = oscillating(steps, guided);
      const int64_t all = count_forwards(schedule, std::vector<bool>(steps, true));
      int64_t fewer = all;
      for (const double speed : {1.2, 1.5, 2.0}) {
        SCOPED_TRACE(std::to_string(steps) + " steps, speed " + std::to_string(speed));
        const CachePolicy policy = steps_for_speed(speed, schedule, typical_changes());
        const int64_t forwards = count_forwards(schedule, computed_steps(policy, schedule, typical_changes()));
        EXPECT_LE(static_cast<double>(forwards) * speed, static_cast<double>(all));
        EXPECT_LE(forwards, fewer);
        fewer = forwards;
        EXPECT_TRUE(parse_cache(cache_text(policy))) << cache_text(policy);
      }
      // One more guided step would not do. Those of one branch are given up first.
      EXPECT_GT(fewer + 2 * guided, all / 2);
    }
  }
}

TEST(StepsForSpeed, SaysHowFastIsPossible) {
  const std::string message =
      test::message_of<UsageError>([] { steps_for_speed(9, oscillating(50, 2), typical_changes()); });
  EXPECT_TRUE(test::contains(message, "at most 6.15 times"));
}

TEST(ChangeCurve, IsALineFromPointToPoint) {
  const ChangeCurve curve({{1, 0}, {0.5, 0.2}, {0.25, 0.6}});
  EXPECT_DOUBLE_EQ(curve.at(1), 0);
  EXPECT_DOUBLE_EQ(curve.at(0.75), 0.1);
  EXPECT_DOUBLE_EQ(curve.at(0.5), 0.2);
  EXPECT_DOUBLE_EQ(curve.at(0.375), 0.4);
  EXPECT_DOUBLE_EQ(curve.at(0), 0.6);
  EXPECT_THROW(ChangeCurve({{1, 0}}), UsageError);
  EXPECT_THROW(ChangeCurve({{1, 0}, {1, 1}}), UsageError);
  EXPECT_THROW(ChangeCurve({{1, 1}, {0.5, 0.9}}), UsageError);
}

// Euler's method on velocities of two branches that are known: v_b = a_b x + cos(b t). Guided steps use 7.5 and -6.5.
struct Field {
  StepSchedule schedule;
  int evaluations = 0;
  std::vector<int64_t> computed = {};

  static at::Tensor velocity(BranchKind branch, const at::Tensor& x, double t) {
    const bool is_prompt = branch == BranchKind::kPrompt;
    return x * (is_prompt ? -0.9 : -0.8) + std::cos((is_prompt ? 3 : 2.9) * t);
  }

  at::Tensor run(const CachePolicy& policy) {
    CacheState state;
    StepCache cache(policy, schedule, state);
    at::Tensor x = at::linspace(-1, 2, 8).view({1, 4, 2});
    for (int64_t i = 0; i < schedule.steps(); ++i) {
      const double t = schedule.timesteps[i];
      const bool computes = cache.computes(i), is_guided = schedule.branches[i] == 2;
      if (computes) computed.push_back(i + 1);
      const auto branch = [&](BranchKind kind) {
        if (!computes) return cache.forecast(i, kind);
        ++evaluations;
        at::Tensor v = velocity(kind, x, t);
        cache.keep(i, kind, v);
        return v.clone();
      };
      at::Tensor v = (is_guided ? 7.5 : 1) * branch(BranchKind::kPrompt);
      if (is_guided) v = v - 6.5 * branch(BranchKind::kNegative);
      cache.end_step(i);
      x = x + (schedule.timesteps[i + 1] - t) * v;
    }
    return x;
  }
};

TEST(StepCache, FollowsAKnownFieldWithHalfTheForwards) {
  Field exact{oscillating(50, 2)}, pairs{oscillating(50, 2)}, fewer{oscillating(20, 2)};
  const at::Tensor x = exact.run({});
  const double error = test::relative_error(pairs.run(*parse_cache("pairs:0.05")), x);
  const double error_of_fewer = test::relative_error(fewer.run({}), x);
  EXPECT_EQ(exact.evaluations, 80);
  EXPECT_EQ(fewer.evaluations, 35);
  EXPECT_LE(pairs.evaluations, 40);
  EXPECT_LT(error, 0.015);
  EXPECT_LT(error, error_of_fewer / 3);
}

TEST(StepCache, ComputesTheSameStepsByListAgain) {
  Field first{oscillating(50, 2)}, again{oscillating(50, 2)};
  const at::Tensor x = first.run(*parse_cache("pairs:0.1"));
  const CachePolicy list{.threshold = {}, .steps = first.computed};
  EXPECT_TRUE(at::equal(again.run(list), x));
  EXPECT_EQ(again.computed, first.computed);
  EXPECT_EQ(again.evaluations, first.evaluations);
}

TEST(StepCache, AskedForEveryStepIsExact) {
  Field exact{oscillating(30, 2)}, all{oscillating(30, 2)};
  EXPECT_TRUE(at::equal(all.run(*parse_cache("steps:1-30")), exact.run({})));
}

// Memory ran out after the first branch of two.
TEST(StepCache, KeepsNothingOfAStepThatFails) {
  const StepSchedule schedule{.timesteps = {1, 0.8, 0.6, 0}, .branches = {2, 2, 2}};
  const CachePolicy policy = *parse_cache("steps:1-2");
  CacheState state;
  const auto make = [&](int64_t step, double prompt, double negative) {
    StepCache cache(policy, schedule, state);
    cache.keep(step, BranchKind::kPrompt, at::full({1}, prompt));
    cache.keep(step, BranchKind::kNegative, at::full({1}, negative));
    cache.end_step(step);
  };
  make(0, 1, 10);
  StepCache(policy, schedule, state).keep(1, BranchKind::kPrompt, at::full({1}, 2.0));
  make(1, 2, 20);
  const StepCache cache(policy, schedule, state);
  EXPECT_NEAR(cache.forecast(2, BranchKind::kPrompt).item<double>(), 2.75, 1e-6);
  EXPECT_NEAR(cache.forecast(2, BranchKind::kNegative).item<double>(), 27.5, 1e-6);
}

// Guidance of 0 leaves the prompt's branch out of most steps.
TEST(StepCache, ForecastsWhatTheLastGuidedStepHad) {
  const StepSchedule schedule{.timesteps = {1, 0.9, 0.8, 0.7, 0}, .branches = {1, 1, 1, 1}};
  const CachePolicy policy{.threshold = 0.5, .steps = {}};
  CacheState state;
  StepCache cache(policy, schedule, state);
  EXPECT_FALSE(cache.can_forecast(BranchKind::kNegative));
  cache.keep(0, BranchKind::kNegative, at::full({1}, 2.0));
  cache.end_step(0);
  EXPECT_TRUE(cache.can_forecast(BranchKind::kNegative));
  EXPECT_FALSE(cache.can_forecast(BranchKind::kPrompt));
  cache.keep(1, BranchKind::kPrompt, at::full({1}, 3.0));
  cache.end_step(1);
  EXPECT_TRUE(cache.can_forecast(BranchKind::kPrompt));
  EXPECT_FALSE(cache.can_forecast(BranchKind::kNegative));
}

// v + 3/4 of the way on, and no further than the two differ; before there are two, the one.
TEST(StepCache, ForecastsAlongALine) {
  const StepSchedule schedule{.timesteps = {1, 0.9, 0.8, 0.7, 0.6, 0}, .branches = {1, 1, 1, 1, 1}};
  const CachePolicy policy = *parse_cache("steps:1-2");
  CacheState state;
  StepCache cache(policy, schedule, state);
  cache.keep(0, BranchKind::kPrompt, at::full({1}, 2.0));
  cache.end_step(0);
  EXPECT_EQ(cache.forecast(1, BranchKind::kPrompt).item<double>(), 2);
  cache.keep(1, BranchKind::kPrompt, at::full({1}, 3.0));
  cache.end_step(1);
  EXPECT_NEAR(cache.forecast(2, BranchKind::kPrompt).item<double>(), 3.75, 1e-6);
  EXPECT_NEAR(cache.forecast(3, BranchKind::kPrompt).item<double>(), 4, 1e-6);
  EXPECT_NEAR(cache.forecast(4, BranchKind::kPrompt).item<double>(), 4, 1e-6);
}

}  // namespace
}  // namespace opensora::sampling
