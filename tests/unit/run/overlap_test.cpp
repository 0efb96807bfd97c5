// When videos are decoded while others are sampled: on a GPU that is not here, whose memory the tests say.
#include "run/overlap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "opensora/error.h"
#include "opensora/plan.h"
#include "run/checkpoints.h"
#include "support/reference.h"

namespace opensora::run {
namespace {

GenerateRequest tiny_request() {
  GenerateRequest request;
  request.model_dir = test::checkpoint_dir();
  request.config = load_config(test::checkpoint_dir() / "tiny.json");
  request.config.sampling.resolution = request.config.sampling.aspect_ratio = std::nullopt;
  request.config.sampling.width = request.config.sampling.height = 64;
  request.config.sampling.num_frames = 17;
  request.config.sampling.num_steps = 2;
  request.prompt = "x";
  request.device = "cpu";
  request.dtype = "bf16";
  request.output = "none.mp4";
  return request;
}

std::vector<Job> two_jobs() {
  std::vector<Job> jobs;
  for (int i = 0; i < 2; ++i) jobs.push_back(make_job(tiny_request()));
  return jobs;
}

models::SetOptions on_a_gpu(const Job& job, std::optional<int64_t> room) {
  models::SetOptions options = set_options(job);
  options.device = at::Device(at::kCUDA, 0);
  options.room = [room] { return room; };
  return options;
}

TEST(Overlap, ReckonsWithThePlansDecoding) {
  const Job job = make_job(tiny_request());
  const int64_t bytes = decoding_bytes(job, on_a_gpu(job, std::nullopt));
  GenerateRequest planned = tiny_request();
  planned.device = "cuda";
  const RunPlan plan = plan_run(planned, {.device_memory = int64_t{8} << 30, .base = BaseMemory{}});
  const auto decode = std::find_if(plan.stages.begin(), plan.stages.end(),
                                   [](const StagePlan& stage) { return stage.stage == "decode"; });
  EXPECT_NEAR(static_cast<double>(bytes) / static_cast<double>(decode->peak_bytes), 1, 0.02);
}

TEST(Overlap, IsOnWhereBothModelsFit) {
  const std::vector<Job> jobs = two_jobs();
  models::SetOptions options = on_a_gpu(jobs.front(), std::nullopt);
  const int64_t decoding = decoding_bytes(jobs.front(), options);
  const int64_t both =
      decoding + models::ModelSet(models::choice_of(jobs.front().request), options).running_bytes(Component::kModel);
  const auto settled = [&](const char* wanted, std::optional<int64_t> room) {
    return settle_overlap(jobs, wanted, on_a_gpu(jobs.front(), room));
  };
  EXPECT_TRUE(settled("auto", both).is_on);
  EXPECT_EQ(settled("auto", both).decoding_bytes, decoding);
  EXPECT_FALSE(settled("auto", both - 1).is_on);
  EXPECT_EQ(settled("auto", both - 1).decoding_bytes, 0);
  EXPECT_TRUE(settled("auto", std::nullopt).is_on);  // nobody knows
  EXPECT_TRUE(settled("on", both - 1).is_on);
  EXPECT_EQ(settled("on", both - 1).decoding_bytes, decoding);
  EXPECT_FALSE(settled("off", both).is_on);
  EXPECT_THROW(settled("sometimes", both), UsageError);
}

TEST(Overlap, NeedsTwoVideosOfWhichOneIsSampledAndNoPreviews) {
  std::vector<Job> jobs = two_jobs();
  const models::SetOptions options = on_a_gpu(jobs.front(), std::nullopt);
  EXPECT_FALSE(settle_overlap({jobs.data(), 1}, "on", options).is_on);
  jobs[0].has_latent = true;
  EXPECT_TRUE(settle_overlap(jobs, "on", options).is_on);
  jobs[1].has_latent = true;
  EXPECT_FALSE(settle_overlap(jobs, "on", options).is_on);
  jobs = two_jobs();
  jobs[1].request.preview_every = 1;
  EXPECT_FALSE(settle_overlap(jobs, "on", options).is_on);
}

TEST(Overlap, OnTheCpuIsOnlyWhereItIsAskedFor) {
  const std::vector<Job> jobs = two_jobs();
  const models::SetOptions options = set_options(jobs.front());
  EXPECT_FALSE(settle_overlap(jobs, "auto", options).is_on);
  EXPECT_TRUE(settle_overlap(jobs, "on", options).is_on);
  EXPECT_EQ(settle_overlap(jobs, "on", options).decoding_bytes, 0);
}

}  // namespace
}  // namespace opensora::run
