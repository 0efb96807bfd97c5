// What a benchmark runs of each stage, on real weights or on none.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "models/model_set.h"
#include "opensora/generate.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

// What the stages of a benchmark are run with.
struct BenchSetup {
  GenerateRequest request;
  Plan plan;
  std::filesystem::path folder;  // for files that are written; removed by its owner
};

// Runs a stage so many times, and calls `lap` after each.
using BenchWork = std::function<void(int64_t times, const std::function<void()>& lap)>;

struct BenchKind {
  std::string stage;
  std::vector<Component> components;
  // Loads the stage's models, which `models` keeps. On the meta device the work is only counted.
  BenchWork (*bind)(const BenchSetup& setup, models::ModelSet& models);
  // That its model reads at once; 0: it does not read any.
  int64_t (*tokens)(const BenchSetup& setup);
};

// In the order of a run.
const std::vector<BenchKind>& bench_kinds();

}  // namespace opensora::pipeline
