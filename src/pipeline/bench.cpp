#include "opensora/bench.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/byte_size.h"
#include "core/cpu_features.h"
#include "core/device.h"
#include "core/machine.h"
#include "models/examination.h"
#include "opensora/error.h"
#include "pipeline/bench_probe.h"
#include "pipeline/bench_stage.h"
#include "pipeline/bench_work.h"
#include "pipeline/video.h"

namespace opensora {
namespace {

using pipeline::BenchKind;
using pipeline::BenchSetup;

std::vector<const BenchKind*> chosen_stages(const BenchRequest& request) {
  const bool has_weights = !request.run.model_dir.empty();
  const std::set<std::string> wanted(request.stages.begin(), request.stages.end());
  std::vector<const BenchKind*> kinds;
  for (const BenchKind& kind : pipeline::bench_kinds()) {
    if (wanted.empty() ? (has_weights || kind.stage != "load") : wanted.contains(kind.stage)) kinds.push_back(&kind);
  }
  for (const std::string& stage : wanted) {
    const std::vector<std::string> known = bench_stages();
    if (std::find(known.begin(), known.end(), stage) == known.end()) {
      throw UsageError("--stages: expected some of " + fmt::format("{}", fmt::join(known, ", ")) + ", found \"" +
                       stage + "\"");
    }
  }
  if (wanted.contains("load") && !has_weights) throw UsageError("--stages load: give the weights, with --model-dir");
  return kinds;
}

int64_t random_bytes(const BenchSetup& setup, const BenchKind& kind) {
  models::ModelSet models = pipeline::models_without_data(setup);
  int64_t bytes = 0;
  for (const Component component : kind.components) {
    models.bind(component);
    for (const MetaSource::Entry& tensor : models.tensors(component)) bytes += 2 * tensor.elements();
  }
  return bytes;
}

// Random weights have no file to stay in.
void check_memory(const BenchSetup& setup, const std::vector<const BenchKind*>& kinds) {
  const std::optional<int64_t> available = memory_info().available;
  if (pipeline::has_weights(setup) || !available) return;
  for (const BenchKind* kind : kinds) {
    const int64_t bytes = random_bytes(setup, *kind);
    if (bytes < *available) continue;
    throw OutOfMemoryError(fmt::format(
        "{}: random weights for the stage \"{}\" take {}, and {} are available; give --model-dir, the --config of a "
        "smaller model, or --stages without it",
        setup.request.config.name, kind->stage, format_bytes(bytes), format_bytes(*available)));
  }
}

// All that the stages bind, before the first is timed.
void check_weights(const BenchSetup& setup, const std::vector<const BenchKind*>& kinds) {
  if (!pipeline::has_weights(setup)) return;
  std::vector<Component> components;
  for (const Component component : {Component::kModel, Component::kAe, Component::kT5, Component::kClip}) {
    const auto binds = [&](const BenchKind* kind) {
      return std::find(kind->components.begin(), kind->components.end(), component) != kind->components.end();
    };
    if (std::any_of(kinds.begin(), kinds.end(), binds)) components.push_back(component);
  }
  check_models(components, models::choice_of(setup.request));
}

void check_counts(const BenchRequest& request) {
  if (request.warmup < 0) throw UsageError(fmt::format("--warmup: expected 0 or more, found {}", request.warmup));
  if (request.repetitions < 1) {
    throw UsageError(fmt::format("--repetitions: expected 1 or more, found {}", request.repetitions));
  }
}

BenchReport describe(const BenchSetup& setup) {
  BenchReport report;
  report.device = setup.plan.device.str();
  report.dtype = dtype_name(setup.plan.dtype);
  report.computing = computing_text(setup.plan.dtype, setup.plan.device);
  report.cpu = fmt::format("{}, {}", cpu_info().model, at::get_cpu_capability());
  report.threads = at::get_num_threads();
  report.config = setup.request.config.name;
  report.random_weights = !pipeline::has_weights(setup);
  report.width = setup.plan.size.width;
  report.height = setup.plan.size.height;
  report.frames = setup.request.config.sampling.num_frames;
  return report;
}

std::optional<double> share_of_peak(const BenchStage& stage, const std::vector<BenchProbe>& probes) {
  if (stage.flops() == 0) return std::nullopt;
  const double products = stage.linear_flops + stage.convolution_flops;
  const double predicted = products / probes[0].flops_per_second + stage.attention_flops / probes[1].flops_per_second;
  return predicted / stage.median();
}

}  // namespace

double BenchStage::median() const {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

std::vector<std::string> bench_stages() {
  std::vector<std::string> names;
  for (const BenchKind& kind : pipeline::bench_kinds()) names.push_back(kind.stage);
  return names;
}

BenchReport bench(const BenchRequest& request, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  check_counts(request);
  const std::vector<const BenchKind*> kinds = chosen_stages(request);
  const pipeline::BenchFolder folder;
  const BenchSetup setup = pipeline::make_bench_setup(request.run, folder.path());
  check_memory(setup, kinds);
  check_weights(setup, kinds);
  pipeline::prepare_machine(setup.request);
  BenchReport report = describe(setup);
  report.probes = pipeline::run_probes(setup, progress);
  for (const BenchKind* kind : kinds) {
    report.stages.push_back(pipeline::run_bench_stage(setup, *kind, request.warmup, request.repetitions, progress));
    report.stages.back().share_of_peak = share_of_peak(report.stages.back(), report.probes);
  }
  return report;
}

}  // namespace opensora
