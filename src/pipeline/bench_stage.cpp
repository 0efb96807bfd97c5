#include "pipeline/bench_stage.h"

#include <stdlib.h>

#include <chrono>
#include <system_error>

#include "core/device.h"
#include "core/meta_device.h"
#include "core/trace.h"
#include "opensora/error.h"
#include "pipeline/stage.h"

namespace opensora::pipeline {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

models::ModelSet bench_models(const BenchSetup& setup, models::Source source) {
  return models::ModelSet(models::choice_of(setup.request),
                          {.source = source, .device = setup.plan.device, .dtype = setup.plan.dtype});
}

// Of one run after the first, so that what is done once does not count.
FlopCount count_flops(const BenchSetup& setup, const BenchKind& kind) {
  if (kind.components.empty()) return {};
  MetaDevice meta_device(setup.plan.device);
  models::ModelSet models = models_without_data(setup);
  const auto work = kind.bind(setup, models);
  const auto flops_of = [&](int64_t times) {
    meta_device.reset_flops();
    work(times, [] {});
    return meta_device.flops();
  };
  const FlopCount once = flops_of(1), twice = flops_of(2);
  return {.linear = twice.linear - once.linear,
          .convolution = twice.convolution - once.convolution,
          .attention = twice.attention - once.attention};
}

// Seconds of each of so many runs, after `warmup` others.
std::vector<double> time_work(const BenchSetup& setup, const BenchKind& kind, int64_t warmup, int64_t repetitions,
                              const ProgressCallback& progress) {
  const at::Device device = setup.plan.device;
  const TraceSpan span(kind.stage);
  if (progress) progress({kind.stage, 0, 0});
  models::ModelSet models = bench_models(setup, has_weights(setup) ? models::Source::kFiles : models::Source::kRandom);
  const auto work = kind.bind(setup, models);
  std::vector<double> seconds;
  Clock::time_point start = Clock::now();
  work(warmup + repetitions, [&] {
    synchronize(device);
    seconds.push_back(seconds_since(start));
    if (progress) progress({kind.stage, static_cast<int64_t>(seconds.size()), warmup + repetitions});
    start = Clock::now();
  });
  seconds.erase(seconds.begin(), seconds.begin() + warmup);
  return seconds;
}

}  // namespace

BenchFolder::BenchFolder() {
  std::string name = (fs::temp_directory_path() / "opensora-bench-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw OutputError(name + ": no temporary folder can be made");
  path_ = name;
}

BenchFolder::~BenchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

bool has_weights(const BenchSetup& setup) { return !setup.request.model_dir.empty(); }

models::ModelSet models_without_data(const BenchSetup& setup) {
  return bench_models(setup, has_weights(setup) ? models::Source::kHeaders : models::Source::kPublished);
}

BenchSetup make_bench_setup(const GenerateRequest& run, const fs::path& folder) {
  BenchSetup setup{.request = run, .plan = {}, .folder = folder};
  Config& config = setup.request.config;
  config.cond_type = "t2v";
  config.use_t2i2v = setup.request.image_only = setup.request.metadata = false;
  setup.request.references.clear();
  if (!setup.request.seed) setup.request.seed = 0;
  setup.plan = make_plan(setup.request);
  return setup;
}

BenchStage run_bench_stage(const BenchSetup& setup, const BenchKind& kind, int64_t warmup, int64_t repetitions,
                           const ProgressCallback& progress) {
  BenchStage stage{.stage = kind.stage, .tokens = kind.tokens(setup), .seconds = {}, .share_of_peak = {}};
  const FlopCount flops = count_flops(setup, kind);
  stage.linear_flops = flops.linear;
  stage.convolution_flops = flops.convolution;
  stage.attention_flops = flops.attention;
  reset_peak_bytes(setup.plan.device);
  try {
    stage.seconds = time_work(setup, kind, warmup, repetitions, progress);
  } catch (...) {
    rethrow_with_stage(kind.stage, setup.plan.device);
  }
  stage.peak_resident_bytes = peak_resident_bytes();
  stage.peak_device_bytes = peak_device_bytes(setup.plan.device);
  release_cached_memory(setup.plan.device);
  return stage;
}

}  // namespace opensora::pipeline
