// The stages of a benchmark: what each one runs, with real or random weights, and how it is counted and timed.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "models/model_set.h"
#include "opensora/bench.h"
#include "opensora/generate.h"
#include "run/job.h"

namespace opensora::tools {

// Runs a stage `times` times, and calls `lap` after each.
using BenchWork = std::function<void(int64_t times, const std::function<void()>& lap)>;

struct BenchKind {
  std::string stage;
  std::vector<Component> components;
  // Loads the stage's models, which `models` keeps. On the meta device the work is only counted.
  BenchWork (*bind)(const run::Job& job, models::ModelSet& models);
  // How many its model reads at once; 0 if it reads none.
  int64_t (*tokens)(const run::Job& job);
};

// The stages, in the order of a run.
const std::vector<BenchKind>& bench_kinds();

// False if the weights are random.
bool has_weights(const run::Job& job);

// The job of a request as text to video. Its output lies in `folder`.
run::Job make_bench_job(const GenerateRequest& run, const std::filesystem::path& folder);

// Its models without data, which tell what they bind and what they compute.
models::ModelSet models_without_data(const run::Job& job);

// Loads the stage's models, runs it `warmup` and then `repetitions` times, and releases them. Leaves share_of_peak
// empty.
BenchStage run_bench_stage(const run::Job& job, const BenchKind& kind, int64_t warmup, int64_t repetitions,
                           const ProgressCallback& progress);

}  // namespace opensora::tools
