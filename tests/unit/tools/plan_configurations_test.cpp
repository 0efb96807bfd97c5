// Every configuration that is shipped can be planned: those with weights at hand in all their variants, the published
// ones without, by the lists of tensors of the published files.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/device.h"
#include "opensora/config.h"
#include "opensora/error.h"
#include "opensora/plan.h"
#include "run/forecast.h"
#include "run/job.h"
#include "support/published_request.h"
#include "support/reference.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kGiB = int64_t{1} << 30;

GenerateRequest tiny(const std::string& config) {
  GenerateRequest request;
  request.model_dir = test::checkpoint_dir();
  request.config = load_config(test::checkpoint_dir() / config);
  request.config.sampling.resolution = request.config.sampling.aspect_ratio = std::nullopt;
  request.config.sampling.width = request.config.sampling.height = 64;
  request.config.sampling.num_steps = 2;
  request.prompt = "x";
  request.device = "cpu";
  request.output = "none.mp4";
  request.overwrite = true;
  return request;
}

void set_tiling(Config& config, bool tiling) {
  std::visit([&](auto& ae) { ae.use_spatial_tiling = ae.use_temporal_tiling = tiling; }, config.ae);
}

void condition_on(GenerateRequest& request, const std::string& cond_type) {
  request.config.cond_type = cond_type;
  request.config.use_t2i2v = false;
  request.config.sampling.num_frames = cond_type.ends_with("easy") ? 81 : cond_type.starts_with("v2v") ? 49 : 17;
  request.references.assign(cond_type == "t2v" ? 0 : cond_type == "i2v_loop" ? 2 : 1, "reference.png");
}

std::vector<std::string> stages_of(const RunPlan& plan) {
  std::vector<std::string> stages;
  for (const StagePlan& stage : plan.stages) stages.push_back(stage.stage + " " + stage.model);
  return stages;
}

void expect_whole(const RunPlan& plan) {
  for (const StagePlan& stage : plan.stages) {
    if (stage.model.empty()) continue;
    EXPECT_GT(stage.stored_bytes, 0) << stage.stage << " " << stage.model;
    EXPECT_GT(stage.flops, 0) << stage.stage << " " << stage.model;
    EXPECT_GT(stage.forwards, 0) << stage.stage << " " << stage.model;
  }
  EXPECT_GT(plan.peak_bytes, 0);
}

TEST(PlanConfigurations, EachConditionOfBothAutoencodersWithAndWithoutTiles) {
  const std::set<std::string> pictures = {"t2v", "i2v_head", "i2v_tail", "i2v_loop"};
  for (const char* config : {"tiny.json", "tiny_high_compression.json"}) {
    for (const char* cond_type :
         {"t2v", "i2v_head", "i2v_tail", "i2v_loop", "v2v_head", "v2v_tail", "v2v_head_easy", "v2v_tail_easy"}) {
      for (const bool tiling : {false, true}) {
        SCOPED_TRACE(std::string(config) + " " + cond_type + (tiling ? ", tiles" : ""));
        GenerateRequest request = tiny(config);
        condition_on(request, cond_type);
        set_tiling(request.config, tiling);
        if (request.config.ae_spatial_compression > 16 && !pictures.contains(cond_type)) {
          EXPECT_THROW(plan_run(request), UsageError);
          continue;
        }
        const RunPlan plan = plan_run(request);
        expect_whole(plan);
        EXPECT_EQ(plan.stages.size(), cond_type == std::string("t2v") ? 5U : 6U);
      }
    }
  }
}

TEST(PlanConfigurations, EachDtypeOnEitherDeviceWhereverTheWeightsAre) {
  for (const char* config : {"tiny.json", "tiny_high_compression.json", "tiny_t2i2v.json"}) {
    for (const char* dtype : {"fp32", "bf16", "fp16"}) {
      for (const char* device : {"cpu", "cuda"}) {
        for (const char* offload : {"none", "model", "block", "auto"}) {
          SCOPED_TRACE(std::string(config) + " " + dtype + " " + device + " " + offload);
          GenerateRequest request = tiny(config);
          request.config.sampling.num_frames = 5;
          request.dtype = dtype;
          request.device = device;
          request.offload = offload;
          const RunPlan plan = plan_run(request, {.device_memory = 8 * kGiB, .base = {}});
          expect_whole(plan);
          EXPECT_TRUE(plan.memory->fits);
        }
      }
    }
  }
}

TEST(PlanConfigurations, FluxInFrontOneFrameAndAPictureAlone) {
  GenerateRequest request = tiny("tiny_t2i2v.json");
  request.config.sampling.num_frames = 5;
  ASSERT_TRUE(request.config.use_t2i2v);
  EXPECT_EQ(stages_of(plan_run(request)),
            (std::vector<std::string>{"text clip", "text t5", "image img_flux", "image img_flux_ae", "encode ae",
                                      "denoise model", "decode ae", "write "}));
  request.image_only = true;
  request.output = "none.png";
  EXPECT_EQ(plan_run(request).stages.size(), 5U);
  for (const char* config : {"tiny.json", "tiny_high_compression.json"}) {
    GenerateRequest still = tiny(config);
    still.config.use_t2i2v = false;
    still.config.sampling.num_frames = 1;
    still.output = "none.png";
    expect_whole(plan_run(still));
  }
}

// On a GPU of 24 GiB.
RunPlan plan_published(const std::string& config) {
  return plan_run(test::published_request(config), {.device_memory = 24 * kGiB, .base = {}, .may_lack_weights = true});
}

int64_t listed_elements(const std::string& manifest) {
  const nlohmann::json list = test::read_json(test::reference_dir() / "manifest" / (manifest + ".json"));
  int64_t elements = 0;
  for (const auto& [name, shape] : list["tensors"].items()) {
    if (name == "encoder.embed_tokens.weight") continue;  // the same table as shared.weight
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    elements += count;
  }
  return elements;
}

int64_t stored(const RunPlan& plan, const std::string& stage, const std::string& model) {
  const auto found = std::find_if(plan.stages.begin(), plan.stages.end(),
                                  [&](const StagePlan& s) { return s.stage == stage && s.model == model; });
  return found == plan.stages.end() ? 0 : found->stored_bytes;
}

TEST(PlanConfigurations, ThePublishedOnesWithoutWeightsAreThoseOfThePublishedFiles) {
  for (const auto& entry : fs::directory_iterator(bundled_configs_dir())) {
    if (entry.path().extension() != ".json") continue;
    const std::string name = entry.path().stem();
    SCOPED_TRACE(name);
    const RunPlan plan = plan_published(name);
    EXPECT_TRUE(plan.published);
    EXPECT_EQ(plan.device, "cuda");
    EXPECT_FALSE(plan.seconds);
    expect_whole(plan);
    ASSERT_TRUE(plan.memory);
    if (name == "bench") continue;  // no weights are published for it
    const bool high = name == "high_compression";
    EXPECT_EQ(stored(plan, "denoise", "model"),
              2 * listed_elements(high ? "Open_Sora_v2_Video_DC_AE" : "Open_Sora_v2"));  // bfloat16
    EXPECT_EQ(stored(plan, "text", "t5"), 4 * listed_elements("t5-v1_1-xxl-encoder"));
    EXPECT_EQ(stored(plan, "text", "clip"), 4 * listed_elements("clip-vit-large-patch14-text"));
    if (high || name.starts_with("t2i2v")) {
      EXPECT_EQ(stored(plan, "image", "img_flux"), 2 * listed_elements("flux1-dev"));
    }
    if (!plan.memory->fits && !plan.memory->flags.empty()) {
      EXPECT_LE(plan.memory->peak_with_flags, plan.memory->available_bytes);
    }
  }
}

TEST(PlanConfigurations, WeightsThatSomebodyNamesMustBeThere) {
  EXPECT_THROW(plan_run(test::published_request("768px"), {.device_memory = 24 * kGiB}), CheckpointError);
  GenerateRequest request = test::published_request("256px");
  request.model_dir = "/nonexistent";
  EXPECT_THROW(plan_run(request), CheckpointError);
}

TEST(PlanConfigurations, RoomForWhatIsToBeMade) {
  Config config = load_config(find_config("256px"));
  config.sampling.num_frames = 33;
  const std::map<std::string, int64_t> expected = {{"t2v", 33},           {"i2v_head", 33},     {"i2v_tail", 33},
                                                   {"i2v_loop", 33},      {"v2v_head", 49},     {"v2v_tail", 49},
                                                   {"v2v_head_easy", 81}, {"v2v_tail_easy", 81}};
  for (const auto& [cond_type, frames] : expected) {
    config.cond_type = cond_type;
    EXPECT_EQ(frames_with_room(config), frames) << cond_type;
  }
  config.sampling.num_frames = 129;
  EXPECT_EQ(frames_with_room(config), 129);
  config.sampling.num_frames = 1;
  config.cond_type = "i2v_loop";
  EXPECT_EQ(frames_with_room(config), 17);
}

// The formula against the operators that were counted.
TEST(ExpectedTime, KnowsTheFlopsOfSampling) {
  for (const char* config : {"tiny.json", "tiny_high_compression.json"}) {
    for (const char* cond_type : {"t2v", "i2v_head"}) {
      SCOPED_TRACE(std::string(config) + " " + cond_type);
      GenerateRequest request = tiny(config);
      condition_on(request, cond_type);
      request.config.sampling.num_steps = 20;
      request.config.sampling.width = request.config.sampling.height = 256;
      const RunPlan plan = plan_run(request);
      const FlopCount flops = run::sampling_flops(run::make_job(request));
      const auto denoise = std::find_if(plan.stages.begin(), plan.stages.end(),
                                        [](const StagePlan& stage) { return stage.stage == "denoise"; });
      EXPECT_NEAR(flops.total() / denoise->flops, 1, 0.1);  // without what a condition adds at the entrance
      EXPECT_NEAR(flops.attention / denoise->attention_flops, 1, 0.01);
    }
  }
}

TEST(ExpectedTime, ATrialTellsRates) {
  const GenerateRequest request = tiny("tiny.json");
  const run::Rates rates = run::measure_rates(request.config, 64, at::kFloat, /*with_convolutions=*/true);
  EXPECT_GT(rates.linear, 1e6);
  EXPECT_GT(rates.attention, 1e6);
  EXPECT_GT(rates.convolution, 1e6);
  EXPECT_DOUBLE_EQ((run::Rates{.linear = 2, .convolution = 8, .attention = 4})
                       .seconds({.linear = 2, .convolution = 8, .attention = 4}),
                   3);
}

}  // namespace
}  // namespace opensora
