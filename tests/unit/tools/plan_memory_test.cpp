// What a plan says of GPUs of several sizes, for the published configurations: which models are streamed, and whether
// that is what a run would decide.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "models/model_set.h"
#include "opensora/plan.h"
#include "run/checkpoints.h"
#include "run/job.h"
#include "support/published_request.h"

namespace opensora {
namespace {

constexpr int64_t kGibibyte = int64_t{1} << 30;
constexpr double kGigabyte = 1e9;

GenerateRequest on_a_gpu(const std::string& config) {
  GenerateRequest request = test::published_request(config);
  request.device = "cuda";
  return request;
}

RunPlan plan_on(const GenerateRequest& request, int64_t gpu_bytes) {
  return plan_run(request, {.device_memory = gpu_bytes, .base = BaseMemory{}, .may_lack_weights = true});
}

const StagePlan& stage_of(const RunPlan& plan, const std::string& model) {
  return *std::find_if(plan.stages.begin(), plan.stages.end(),
                       [&](const StagePlan& stage) { return stage.model == model; });
}

// "t5 model": those that are streamed.
std::string streamed(const RunPlan& plan) {
  std::string models;
  for (const StagePlan& stage : plan.stages) {
    if (stage.streams_blocks) models.append(models.empty() ? "" : " ").append(stage.model);
  }
  return models;
}

double denoising(const RunPlan& plan) { return static_cast<double>(stage_of(plan, "model").peak_bytes) / kGigabyte; }

TEST(PlanMemory, A24GibCardStreamsNothing) {
  const RunPlan small = plan_on(on_a_gpu("256px"), 24 * kGibibyte), large = plan_on(on_a_gpu("768px"), 24 * kGibibyte),
                largest = plan_on(on_a_gpu("720p"), 24 * kGibibyte);
  for (const RunPlan* plan : {&small, &large, &largest}) {
    EXPECT_EQ(streamed(*plan), "");
    EXPECT_TRUE(plan->memory->fits);
    EXPECT_EQ(plan->memory->needed_bytes, plan->peak_bytes + plan->memory->reserve_bytes);
  }
  // Without the longer parts that the MLPs of a GPU take it would be 17.8, 20.4 and 22.0.
  EXPECT_NEAR(denoising(small), 18.0, 0.1);
  EXPECT_NEAR(denoising(large), 20.75, 0.1);
  EXPECT_NEAR(denoising(largest), 22.4, 0.1);
}

TEST(PlanMemory, SmallerCardsStreamWhatDoesNotFit) {
  for (const char* config : {"256px", "768px", "720p"}) {
    SCOPED_TRACE(config);
    EXPECT_EQ(streamed(plan_on(on_a_gpu(config), 16 * kGibibyte)), "model");
    EXPECT_EQ(streamed(plan_on(on_a_gpu(config), 12 * kGibibyte)), "model");
    const RunPlan least = plan_on(on_a_gpu(config), 8 * kGibibyte);
    EXPECT_EQ(streamed(least), "t5 model");
    EXPECT_LT(stage_of(least, "t5").peak_bytes, 4 * kGibibyte);
    EXPECT_TRUE(least.memory->fits);
  }
}

TEST(PlanMemory, WhatIsAskedForIsPlanned) {
  GenerateRequest request = on_a_gpu("256px");
  request.offload = "model";
  const RunPlan whole = plan_on(request, 8 * kGibibyte);
  EXPECT_EQ(streamed(whole), "");
  EXPECT_FALSE(whole.memory->fits);
  EXPECT_EQ(whole.memory->flags, std::vector<std::string>{"`offload` block"});
  request.offload = "block";
  EXPECT_EQ(streamed(plan_on(request, 24 * kGibibyte)), "t5 model");
}

// Of the limit and the card it is what leaves less, as in a run.
TEST(PlanMemory, ALimitAndACard) {
  GenerateRequest request = on_a_gpu("256px");
  request.max_memory = 16 * kGibibyte;
  const RunPlan limited = plan_on(request, 24 * kGibibyte);
  EXPECT_EQ(limited.memory->source, "`max_memory`");
  EXPECT_EQ(limited.memory->needed_bytes, limited.peak_bytes);
  EXPECT_EQ(streamed(limited), "model");
  const RunPlan small = plan_on(request, 8 * kGibibyte);
  EXPECT_EQ(small.memory->source, "`device_memory`");
  EXPECT_EQ(streamed(small), "t5 model");
}

// The estimate that decides, and the operators that were counted.
TEST(PlanMemory, AnEstimateBeforeARunIsThePlansFigure) {
  for (const char* config : {"256px", "768px", "720p", "high_compression"}) {
    for (const int64_t card : {80, 12}) {
      SCOPED_TRACE(std::string(config) + " " + std::to_string(card));
      const GenerateRequest request = on_a_gpu(config);
      const RunPlan plan = plan_on(request, card * kGibibyte);
      GenerateRequest here = request;
      here.device = "cpu";
      models::SetOptions options = run::set_options(run::make_job(here));
      options.source = models::Source::kPublished;
      options.device = at::kCUDA;
      options.dtype = at::kBFloat16;
      options.room = [&] { return models::room_in(card * kGibibyte, 0); };
      const models::ModelSet models(models::choice_of(request), options);
      for (const Component component : {Component::kT5, Component::kModel, Component::kImgFlux}) {
        const std::string model = models::component_name(component);
        const auto found = std::find_if(plan.stages.begin(), plan.stages.end(),
                                        [&](const StagePlan& stage) { return stage.model == model; });
        if (found == plan.stages.end()) continue;
        const auto planned = static_cast<double>(found->peak_bytes);
        const auto estimated = static_cast<double>(models.running_bytes(component));
        EXPECT_GE(estimated, planned * 0.995) << model;
        EXPECT_LE(estimated, planned * 1.02 + 0.3e9) << model;  // with modulations of more steps
      }
    }
  }
}

}  // namespace
}  // namespace opensora
