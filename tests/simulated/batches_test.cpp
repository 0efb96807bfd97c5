// Batches on the simulated device: stages that overlap or do not, previews, runs that are stopped, limits of memory.
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <vector>

#include "opensora/batch.h"
#include "opensora/error.h"
#include "opensora/process.h"
#include "simulated/simulated_test.h"
#include "support/pipeline_case.h"
#include "support/temporary_folder.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;

// How a batch of three videos is run.
struct BatchWay {
  const char *offload, *overlap;
  bool keep_models = false;
  int64_t preview_every = 0;
};

std::vector<BatchRow> three_rows(const fs::path& folder, const BatchWay& way) {
  std::vector<BatchRow> rows;
  for (const char* prompt : {"rain", "a ship", "a storm"}) {
    BatchRow& row = rows.emplace_back();
    row.request = test::short_request(folder, /*steps=*/2);
    row.request.prompt = row.name = prompt;
    row.request.save_tensors = folder / (row.name + ".safetensors");
    row.request.offload = way.offload;
    row.request.preview_every = way.preview_every;
  }
  return rows;
}

BatchResult run_three(const fs::path& folder, const BatchWay& way, const ProgressCallback& progress = {}) {
  const BatchOptions options{.output_dir = folder / "videos",
                             .name_template = "{name}",
                             .keep_models = way.keep_models,
                             .overlap = way.overlap};
  return run_batch(three_rows(folder, way), options, {.progress = progress});
}

void expect_equal_batches(const fs::path& folder, const fs::path& expected) {
  for (const char* name : {"rain", "a ship", "a storm"}) {
    SCOPED_TRACE(name);
    test::expect_equal_tensors(folder / (std::string(name) + ".safetensors"),
                               expected / (std::string(name) + ".safetensors"));
  }
}

class SimulatedBatches : public test::SimulatedTest {};

TEST_F(SimulatedBatches, AreTheSameInEveryWay) {
  const test::TemporaryFolder expected;
  ASSERT_EQ(run_three(expected.path(), {"model", "off"}).exit_code(false), 0);
  for (const BatchWay& way :
       {BatchWay{"none", "on"}, BatchWay{"block", "on"}, BatchWay{"model", "auto", true},
        BatchWay{"block", "off", true}, BatchWay{"none", "off", false, 1}, BatchWay{"block", "auto", false, 1}}) {
    SCOPED_TRACE(std::string("--offload ") + way.offload + " --overlap " + way.overlap);
    restart();
    const test::TemporaryFolder folder;
    EXPECT_EQ(run_three(folder.path(), way).exit_code(false), 0);
    expect_equal_batches(folder.path(), expected.path());
    expect_clean();
  }
}

// What a run is doing as it is stopped.
struct Stop {
  const char* stage;
  int64_t done, video = 1;
};

TEST_F(SimulatedBatches, AStoppedRunLeavesNothingOnTheDevice) {
  const test::TemporaryFolder expected;
  ASSERT_EQ(run_three(expected.path(), {"model", "off"}).exit_code(false), 0);
  for (const char* overlap : {"on", "off"}) {
    for (const Stop& stop :
         {Stop{"text", 0, 0}, Stop{"denoise", 1}, Stop{"denoise", 1, 2}, Stop{"decode", 1}, Stop{"write", 5, 2}}) {
      SCOPED_TRACE(std::string(stop.stage) + ", overlap " + overlap);
      restart();
      const test::TemporaryFolder folder;
      const auto stops = [&](const Progress& now) {
        if (now.stage == stop.stage && now.done == stop.done && now.video == stop.video) throw InterruptedError(SIGINT);
      };
      EXPECT_THROW(run_three(folder.path(), {"block", overlap}, stops), InterruptedError);
      expect_clean();
    }
  }
  const test::TemporaryFolder folder;
  ASSERT_EQ(run_three(folder.path(), {"block", "on"}).exit_code(false), 0);
  expect_equal_batches(folder.path(), expected.path());
}

// A signal in the middle of a stage of the official run that has all of them. Each in a process of its own, as the wish
// to stop is not taken back.
class SimulatedStopDeathTest : public SimulatedBatches, public ::testing::WithParamInterface<Stop> {};

TEST_P(SimulatedStopDeathTest, ASignalLeavesNothingOnTheDeviceEither) {
  const test::TemporaryFolder folder;
  GenerateRequest request = test::pipeline_request("pipeline_t2i2v", folder.path());
  request.device = test::kSimulated;
  request.dtype = "fp32";
  request.offload = "block";
  const auto stop_soon = [](const Progress& now) {
    if (now.stage == GetParam().stage && now.done >= GetParam().done) request_stop(SIGINT);
  };
  const auto stopped = [&] {
    const int64_t before = test::simulated::allocated_bytes();
    try {
      generate(request, stop_soon);
    } catch (const InterruptedError&) {
      const bool is_clean = test::simulated::allocated_bytes() == before && test::simulated::pinned_bytes() == 0;
      _exit(is_clean && test::simulated::take_races().empty() ? 0 : 2);
    }
    _exit(1);
  };
  EXPECT_EXIT(stopped(), testing::ExitedWithCode(0), "");
}

INSTANTIATE_TEST_SUITE_P(In, SimulatedStopDeathTest,
                         ::testing::Values(Stop{"text", 0}, Stop{"image", 1}, Stop{"encode", 0}, Stop{"denoise", 1},
                                           Stop{"decode", 1}, Stop{"write", 1}),
                         [](const auto& info) { return std::string(info.param.stage); });

TEST_F(SimulatedBatches, TheLimitOfMemoryIsKept) {
  constexpr int64_t kMemory = int64_t{1} << 28;
  const test::TemporaryFolder folder;
  GenerateRequest request = test::short_request(folder.path());
  const auto peak_with = [&](const char* offload, int64_t limit) {
    restart({.memory_bytes = kMemory});
    request.offload = offload;
    request.max_memory = limit;
    const int64_t peak = generate(request).peak_device_bytes;
    expect_clean();
    return peak;
  };
  const int64_t all = peak_with("none", 0), one_by_one = peak_with("model", 0);
  ASSERT_LT(one_by_one, all);
  EXPECT_THROW(peak_with("none", (all + one_by_one) / 2), OutOfMemoryError);
  EXPECT_LE(peak_with("model", (all + one_by_one) / 2), (all + one_by_one) / 2);
  EXPECT_LE(peak_with("none", all + kMemory / 1000), all);
}

}  // namespace
}  // namespace opensora
