// Step caching on the simulated device: the CPU's latents, and no more waiting than one number a guided step.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "opensora/batch.h"
#include "simulated/simulated_test.h"
#include "support/pipeline_case.h"
#include "support/reference.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

using test::simulated::Counters;

struct CachedCase {
  const char *pipeline, *cache, *offload;
};

void PrintTo(const CachedCase& cached, std::ostream* stream) { *stream << cached.pipeline << " " << cached.cache; }

class SimulatedCache : public test::SimulatedTest, public ::testing::WithParamInterface<CachedCase> {
 protected:
  // Twelve steps: guidance oscillates in the last two.
  static GenerateRequest request(const test::TemporaryFolder& folder) {
    GenerateRequest request = test::pipeline_request(GetParam().pipeline, folder.path());
    request.config.sampling.num_steps = 12;
    request.dtype = "fp32";
    request.offload = GetParam().offload;
    request.cache = GetParam().cache;
    return request;
  }
};

TEST_P(SimulatedCache, ComputesTheCpusStepsAndLatentAndNoForwardAtOthers) {
  const test::TemporaryFolder folder, other;
  GenerateRequest here = request(folder), there = request(other);
  there.device = test::kSimulated;
  const GenerateResult expected = generate(here);
  GenerateResult result;
  const std::vector<Counters> at_step = test::counters_by_step(there, &result);
  EXPECT_EQ(result.computed_steps, expected.computed_steps);
  EXPECT_EQ(result.forwards, expected.forwards);
  EXPECT_EQ(result.image_forwards, expected.image_forwards);
  EXPECT_TRUE(test::close(test::saved_latent(there.save_tensors), test::saved_latent(here.save_tensors), 1e-3, 1e-3));

  if (at_step.empty()) return;  // a picture alone
  ASSERT_EQ(at_step.size(), 12U);
  constexpr int64_t kNumber = 8;  // bytes at most
  int forecasts = 0;
  for (size_t i = 2; i < at_step.size(); ++i) {
    const Counters &before = at_step[i - 1], &after = at_step[i];
    const auto& computed = result.computed_steps;
    const bool is_computed = std::find(computed.begin(), computed.end(), static_cast<int64_t>(i) + 1) != computed.end();
    SCOPED_TRACE("step " + std::to_string(i + 1));
    EXPECT_LE(after.thread_synchronizations - before.thread_synchronizations, 2);
    EXPECT_LE(after.bytes_to_host - before.bytes_to_host, 1 + kNumber);
    if (is_computed) continue;
    EXPECT_LT(after.kernels - before.kernels, 30);
    if (++forecasts > 1) EXPECT_EQ(after.device_allocations, before.device_allocations) << "the cache should serve all";
  }
  EXPECT_GT(forecasts, 1);
}

INSTANTIATE_TEST_SUITE_P(Cases, SimulatedCache,
                         ::testing::Values(CachedCase{"pipeline_t2v", "pairs:1", "none"},
                                           CachedCase{"pipeline_t2v", "steps:1-4,7,11", "block"},
                                           CachedCase{"pipeline_t2v_plain_guidance", "pairs:1", "model"},
                                           CachedCase{"pipeline_i2v_head", "pairs:1", "block"},
                                           CachedCase{"pipeline_v2v_head", "pairs:1", "model"},
                                           CachedCase{"pipeline_dc_ae_t2v", "pairs:1", "none"},
                                           CachedCase{"pipeline_flux_image", "pairs:1", "model"}),
                         [](const auto& info) { return "Case" + std::to_string(info.index); });

// Rows of one batch each have their own cache; previews are made at forecast steps, too.
class SimulatedCacheBatch : public test::SimulatedTest {};

TEST_F(SimulatedCacheBatch, CachesByRow) {
  const test::TemporaryFolder folder;
  std::vector<BatchRow> rows;
  for (const char* cache : {"none", "steps:1-3,6", "pairs:1"}) {
    BatchRow& row = rows.emplace_back();
    row.request = test::short_request(folder.path(), /*steps=*/6);
    row.name = "row" + std::to_string(rows.size());
    row.request.cache = cache;
    row.request.save_tensors.clear();
    row.request.preview_every = 1;
  }
  const BatchResult result = run_batch(rows, {.output_dir = folder.path() / "videos", .name_template = "{name}"});
  ASSERT_EQ(result.exit_code(false), 0);
  EXPECT_EQ(result.videos[0].result.computed_steps, std::vector<int64_t>());
  EXPECT_EQ(result.videos[0].result.forwards, 12);
  for (const int i : {1, 2}) {
    EXPECT_EQ(result.videos[i].result.computed_steps, (std::vector<int64_t>{1, 2, 3, 6}));
    EXPECT_EQ(result.videos[i].result.forwards, 8);
  }
}

}  // namespace
}  // namespace opensora
