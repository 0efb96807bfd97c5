// What a benchmark runs of each stage, on real weights or on none.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/weights.h"
#include "opensora/generate.h"
#include "pipeline/plan.h"
#include "text/encoder_config.h"

namespace opensora::pipeline {

enum class BenchModel { kClip, kT5, kTransformer, kAutoencoder };

// What the stages of a benchmark are run with.
struct BenchSetup {
  GenerateRequest request;
  Plan plan;
  text::ClipConfig clip;
  text::T5Config t5;
  std::filesystem::path folder;  // for files that are written; removed by its owner
};

// Where a stage runs, and its weights: on the meta device it is only counted.
struct BenchPlace {
  at::Device device;
  std::function<Weights(BenchModel)> weights;
};

// Runs a stage so many times, and calls `lap` after each.
using BenchWork = std::function<void(int64_t times, const std::function<void()>& lap)>;

struct BenchKind {
  std::string stage;
  std::vector<BenchModel> models;
  // Loads the stage's models; they are released with the work.
  BenchWork (*bind)(const BenchSetup& setup, const BenchPlace& place);
  // That its model reads at once; 0: it does not read any.
  int64_t (*tokens)(const BenchSetup& setup);
};

// In the order of a run.
const std::vector<BenchKind>& bench_kinds();

// Sizes of text encoders for a configuration without files: its widths, in the proportions of T5-XXL and CLIP-L.
text::ClipConfig proportioned_clip(const Config& config);
text::T5Config proportioned_t5(const Config& config);

// Asks `weights` for all tensors of a model.
void bind_all(BenchModel model, const BenchSetup& setup, const Weights& weights);

}  // namespace opensora::pipeline
