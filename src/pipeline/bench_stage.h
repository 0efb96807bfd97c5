// One stage of a benchmark: set up, counted, timed.
#pragma once

#include <filesystem>

#include "opensora/bench.h"
#include "pipeline/bench_work.h"

namespace opensora::pipeline {

// For the files that a benchmark writes; removed with all that is in it.
class BenchFolder {
 public:
  BenchFolder();  // throws OutputError
  ~BenchFolder();
  BenchFolder(const BenchFolder&) = delete;
  BenchFolder& operator=(const BenchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// False: the weights are random.
bool has_weights(const BenchSetup& setup);

// Checks the request as a run of text to video.
BenchSetup make_bench_setup(const GenerateRequest& run, const std::filesystem::path& folder);

// Its models without data: what they ask for, and what they compute.
models::ModelSet models_without_data(const BenchSetup& setup);

// Loads the stage's models, runs it `warmup` and then `repetitions` times, and releases them. Without share_of_peak.
BenchStage run_bench_stage(const BenchSetup& setup, const BenchKind& kind, int64_t warmup, int64_t repetitions,
                           const ProgressCallback& progress);

}  // namespace opensora::pipeline
