// Predicted time: the table of GPUs, the model, and what it says of a published configuration.
#include "tools/roofline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "opensora/config.h"
#include "opensora/error.h"
#include "opensora/plan.h"
#include "support/published_request.h"
#include "tools/device_table.h"

namespace opensora::tools {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

TEST(GpuTable, HoldsFiguresThatCanBe) {
  std::set<std::string_view> keys;
  for (const GpuFigures& gpu : gpu_table()) {
    SCOPED_TRACE(gpu.key);
    EXPECT_TRUE(keys.insert(gpu.key).second);
    EXPECT_FALSE(gpu.driver_names.empty());
    EXPECT_GE(gpu.memory_gib, 8);
    EXPECT_GT(gpu.bandwidth, 100e9);
    EXPECT_LT(gpu.bandwidth, 10e12);
    // Tensor cores do twice the others' work on a GeForce, four times on the cards for workstations, and up to 30.
    EXPECT_GT(gpu.half, 1.9 * gpu.fp32);
    EXPECT_LT(gpu.half, 31 * gpu.fp32);
    EXPECT_GT(gpu.product_share, 0.5);
    EXPECT_LT(gpu.product_share, 1.2);
    EXPECT_LT(usable_memory(gpu), gpu.memory_gib * kGiB);
    EXPECT_EQ(&find_gpu(std::string(gpu.key)), &gpu);
    EXPECT_EQ(find_present_gpu("NVIDIA " + std::string(gpu.driver_names.front()), gpu.memory_gib * kGiB), &gpu);
  }
}

TEST(GpuTable, KnowsAPresentGpuByItsWholeNameAndItsMemory) {
  const auto key = [](const char* name, double gib) {
    const GpuFigures* gpu = find_present_gpu(name, static_cast<int64_t>(gib * kGiB));
    return gpu == nullptr ? std::string("none") : std::string(gpu->key);
  };
  EXPECT_EQ(key("NVIDIA GeForce RTX 4090", 23.99), "4090");
  EXPECT_EQ(key("NVIDIA GeForce RTX 4090 Laptop GPU", 15.99), "none");
  EXPECT_EQ(key("NVIDIA GeForce RTX 4090 D", 23.99), "none");
  EXPECT_EQ(key("NVIDIA GeForce RTX 3060", 12), "3060-12");
  EXPECT_EQ(key("NVIDIA GeForce RTX 3060", 8), "none");
  EXPECT_EQ(key("NVIDIA A100-SXM4-40GB", 39.4), "a100-40");
  EXPECT_EQ(key("NVIDIA A100-SXM4-80GB", 79.3), "a100-80");
  EXPECT_EQ(key("NVIDIA L40S", 44.99), "l40s");
  EXPECT_EQ(key("Tesla V100-SXM2-16GB", 16), "none");
}

TEST(GpuTable, AnUnknownKeyIsAnErrorThatListsAll) {
  try {
    find_gpu("voodoo2");
    FAIL();
  } catch (const UsageError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("voodoo2"), std::string::npos) << text;
    EXPECT_NE(text.find("4070ti-16"), std::string::npos) << text;
  }
}

// 10 of each kind of FLOPs at 10, 5 and 2 a second; bytes at 100 a second.
const Roofline kRoofline{.products = 10, .attention = 5, .convolutions = 2, .memory = 100};

StagePlan small_stage() {
  StagePlan stage;
  stage.flops = 30;
  stage.attention_flops = stage.convolution_flops = 10;
  return stage;
}

TEST(Roofline, EachClassTakesItsFlopsOrItsBytes) {
  StagePlan stage = small_stage();
  EXPECT_DOUBLE_EQ(compute_seconds(kRoofline, stage), 1 + 2 + 5);
  stage.product_bytes = 99;
  EXPECT_DOUBLE_EQ(compute_seconds(kRoofline, stage), 1 + 2 + 5);
  stage.product_bytes = 300;
  stage.attention_bytes = 400;
  stage.convolution_bytes = 600;
  EXPECT_DOUBLE_EQ(compute_seconds(kRoofline, stage), 3 + 4 + 6);
  stage.elementwise_bytes = 50;
  EXPECT_DOUBLE_EQ(compute_seconds(kRoofline, stage), 13.5);
}

TEST(Roofline, AttentionInEightBitsTakesLess) {
  StagePlan stage = small_stage();
  stage.fp8_attention_flops = 5;
  EXPECT_NEAR(compute_seconds(kRoofline, stage), 1 + (1 + 1 / 1.53) + 5, 1e-9);
}

TEST(Roofline, CallsWaitOnTheCpuAndRunAheadOnAGpu) {
  StagePlan stage = small_stage();
  stage.operators = 100;
  Roofline device = kRoofline;
  device.operator_seconds = 0.05;
  EXPECT_DOUBLE_EQ(compute_seconds(device, stage), 8 + 5);
  device.is_asynchronous = true;
  EXPECT_DOUBLE_EQ(compute_seconds(device, stage), 8);
  device.operator_seconds = 1;
  EXPECT_DOUBLE_EQ(compute_seconds(device, stage), 100);
}

TEST(Roofline, StreamingOverlapsAndLoadingComesBefore) {
  StagePlan stage = small_stage();
  stage.streamed_bytes = 60;
  stage.loaded_bytes = 30;
  stage.stored_bytes = 40;
  Roofline device = kRoofline;
  EXPECT_DOUBLE_EQ(load_seconds(device, stage), 0);
  device.transfer = 10;
  device.file = 20;
  EXPECT_DOUBLE_EQ(compute_seconds(device, stage), 8);
  EXPECT_DOUBLE_EQ(load_seconds(device, stage), 3);
  device.file = 10;
  EXPECT_DOUBLE_EQ(load_seconds(device, stage), 4);
  stage.streamed_bytes = 100;
  EXPECT_DOUBLE_EQ(compute_seconds(device, stage), 10);
  RunPlan run;
  run.stages = {stage, stage};
  add_seconds(device, run);
  EXPECT_DOUBLE_EQ(*run.seconds, 2 * (10 + 4));
  EXPECT_DOUBLE_EQ(*run.stages[0].seconds, 10);
}

RunPlan plan_for(const std::string& gpu, const std::string& config, const std::string& offload = "auto") {
  GenerateRequest request = test::published_request(config);
  request.offload = offload;
  return plan_run(request, {.device_memory = {}, .gpu = gpu, .base = {}, .may_lack_weights = true});
}

const StagePlan& denoising(const RunPlan& plan) {
  return *std::find_if(plan.stages.begin(), plan.stages.end(), [](const auto& s) { return s.stage == "denoise"; });
}

const StagePlan& t5(const RunPlan& plan) {
  return *std::find_if(plan.stages.begin(), plan.stages.end(), [](const auto& s) { return s.model == "t5"; });
}

// The estimate that the shares are from, part by part, for an H100 at 768px: 6.6 s of attention, 1.7 of products and
// 0.3 of the rest make a forward of 8.6; at 256px 0.34.
TEST(PlannedSeconds, AgreeWithTheEstimateThatTheSharesAreFrom) {
  const StagePlan& large = denoising(plan_for("h100", "768px"));
  EXPECT_NEAR(*large.seconds / static_cast<double>(large.forwards), 8.6, 0.9);
  const StagePlan& small = denoising(plan_for("h100", "256px"));
  EXPECT_NEAR(*small.seconds / static_cast<double>(small.forwards), 0.34, 0.05);
}

TEST(PlannedSeconds, StreamedBlocksTakeWhatTheirTransferTakes) {
  const RunPlan whole = plan_for("4090", "256px", "model"), streamed = plan_for("4090", "256px", "block");
  EXPECT_EQ(denoising(whole).streamed_bytes, 0);
  EXPECT_GT(denoising(whole).loaded_bytes, 20'000'000'000);
  // 8.6 billion weights of two bytes, 80 times.
  EXPECT_NEAR(static_cast<double>(denoising(streamed).streamed_bytes), 80 * 17.2e9, 80 * 0.2e9);
  EXPECT_GE(*denoising(streamed).seconds, *denoising(whole).seconds);
  EXPECT_LT(*denoising(streamed).load_seconds, *denoising(whole).load_seconds + 1e-9);
  // 24 blocks of 193 million, for each of two texts.
  EXPECT_EQ(t5(whole).streamed_bytes, 0);
  EXPECT_NEAR(static_cast<double>(t5(streamed).streamed_bytes), 2 * 9.26e9, 2 * 0.1e9);
  EXPECT_LT(t5(streamed).loaded_bytes, 1'000'000'000);
  EXPECT_GT(t5(whole).loaded_bytes, 9'000'000'000);
}

TEST(PlannedSeconds, ForAllGpusAreThoseForEach) {
  const GenerateRequest request = test::published_request("256px");
  const std::vector<RunPlan> all =
      plan_for_all_gpus(request, {.device_memory = {}, .base = {}, .may_lack_weights = true});
  const std::vector<KnownGpu> gpus = known_gpus();
  ASSERT_EQ(all.size(), gpus.size());
  for (size_t i = 0; i < gpus.size(); ++i) {
    SCOPED_TRACE(gpus[i].key);
    ASSERT_TRUE(all[i].memory);
    EXPECT_EQ(all[i].memory->available_bytes, gpus[i].memory_bytes);
    EXPECT_EQ(all[i].speed_of, gpus[i].name);
    if (gpus[i].key != "5090" && gpus[i].key != "3060-12") continue;
    const RunPlan alone = plan_for(gpus[i].key, "256px");
    EXPECT_DOUBLE_EQ(*all[i].seconds, *alone.seconds);
    EXPECT_EQ(all[i].memory->fits, alone.memory->fits);
    EXPECT_EQ(all[i].memory->source, alone.memory->source);
  }
}

TEST(PlannedSeconds, AGpuCannotBePlannedForOnTheCpu) {
  GenerateRequest request = test::published_request("256px");
  request.device = "cpu";
  const PlanOptions options{.device_memory = {}, .gpu = "h100", .base = {}, .may_lack_weights = true};
  EXPECT_THROW(plan_run(request, options), UsageError);
  request.device = "auto";
  PlanOptions unknown = options;
  unknown.gpu = "h9000";
  EXPECT_THROW(plan_run(request, unknown), UsageError);
}

}  // namespace
}  // namespace opensora::tools
