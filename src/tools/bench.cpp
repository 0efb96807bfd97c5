// What the machine can do, what the stages take of it, and how their cost grows with tokens, frames and steps.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/machine.h"
#include "core/stopwatch.h"
#include "core/units.h"
#include "models/examination.h"
#include "nn/attention.h"
#include "opensora/bench.h"
#include "opensora/error.h"
#include "run/job.h"
#include "tools/bench_stage.h"
#include "tools/scratch_folder.h"

namespace opensora::tools {
namespace {

double median_seconds(at::Device device, const std::function<void()>& work) {
  constexpr double kEnough = 1;
  constexpr size_t kFewest = 3, kMost = 1000;
  work();  // warm-up
  std::vector<double> seconds;
  double sum = 0;
  while (seconds.size() < kFewest || (sum < kEnough && seconds.size() < kMost)) {
    seconds.push_back(seconds_of(device, work));
    sum += seconds.back();
  }
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

// The device and the dtype in which a run does such work.
at::TensorOptions options_of(const run::Job& job, Work work) {
  const at::Device device = job.device;
  return at::TensorOptions().device(device).dtype(computing_dtype(job.dtype, work, device));
}

int64_t all_tokens(const run::Job& job) { return job.image_tokens() + job.request.config.t5.max_length; }

// Normally distributed, some thousands of rows again and again: numbers that are all the same would take less power
// than those of a run, and a GPU would clock higher.
at::Tensor random_rows(int64_t rows, int64_t width, const at::TensorOptions& options) {
  constexpr int64_t kDistinct = 2048;
  const at::Tensor some = at::randn({std::min(rows, kDistinct), width},
                                    at::make_generator<at::CPUGeneratorImpl>(/*seed=*/1), at::TensorOptions())
                              .to(options.device(), c10::typeMetaToScalarType(options.dtype()));
  return some.repeat({(rows + kDistinct - 1) / kDistinct, 1}).narrow(0, 0, rows);
}

// The first layer of the transformer's MLP, whose result goes into memory that is there already.
BenchProbe probe_matmul(const run::Job& job) {
  const MMDiTConfig& model = job.request.config.model;
  const int64_t m = all_tokens(job), k = model.hidden_size, n = model.mlp_hidden();
  const at::TensorOptions options = options_of(job, Work::kProduct);
  const at::Tensor x = random_rows(m, k, options), w = random_rows(n, k, options).t();
  at::Tensor out = at::empty({m, n}, options);
  const double seconds = median_seconds(job.device, [&] { at::mm_out(out, x, w); });
  return {.name = "matmul",
          .shape = fmt::format("[{}, {}] x [{}, {}]", m, k, k, n),
          .flops_per_second = 2.0 * static_cast<double>(m) * static_cast<double>(k) * static_cast<double>(n) / seconds};
}

BenchProbe probe_attention(const run::Job& job) {
  const MMDiTConfig& model = job.request.config.model;
  const int64_t tokens = all_tokens(job);
  const at::Tensor q = random_rows(model.num_heads * tokens, model.head_dim(), options_of(job, Work::kProduct))
                           .view({1, model.num_heads, tokens, model.head_dim()});
  const at::Tensor k = q.clone(), v = q.clone();
  const double seconds = median_seconds(job.device, [&] { nn::attention(q, k, v); });
  const double length = static_cast<double>(tokens);
  return {.name = "attention",
          .shape = fmt::format("{} heads of {}, {} tokens", model.num_heads, model.head_dim(), tokens),
          .flops_per_second = 4 * length * length * static_cast<double>(model.hidden_size) / seconds};
}

// "matmul", then "attention", both at the transformer's sizes with all of a video's tokens, and in what the run's dtype
// is computed in. Each is the median of as many runs as fit into a second, and of at least three.
std::vector<BenchProbe> run_probes(const run::Job& job, const ProgressCallback& progress) {
  constexpr int64_t kProbes = 2;
  std::vector<BenchProbe> probes;
  if (progress) progress({"probe", 0, 0});
  for (const auto probe : {probe_matmul, probe_attention}) {
    probes.push_back(probe(job));
    if (progress) progress({"probe", static_cast<int64_t>(probes.size()), kProbes});
  }
  return probes;
}

}  // namespace
}  // namespace opensora::tools

namespace opensora {
namespace {

using tools::BenchKind;

std::vector<const BenchKind*> chosen_stages(const BenchRequest& request) {
  const bool has_weights = !request.run.model_dir.empty();
  const std::set<std::string> wanted(request.stages.begin(), request.stages.end());
  std::vector<const BenchKind*> kinds;
  for (const BenchKind& kind : tools::bench_kinds()) {
    if (wanted.empty() ? (has_weights || kind.stage != "load") : wanted.contains(kind.stage)) kinds.push_back(&kind);
  }
  for (const std::string& stage : wanted) {
    const std::vector<std::string> known = bench_stages();
    if (std::find(known.begin(), known.end(), stage) == known.end()) {
      throw UsageError("`stages`: expected some of " + fmt::format("{}", fmt::join(known, ", ")) + ", found \"" +
                       stage + "\"");
    }
  }
  if (wanted.contains("load") && !has_weights) throw UsageError("`stages` load: give the weights, with `model_dir`");
  return kinds;
}

int64_t random_bytes(const run::Job& job, const BenchKind& kind) {
  models::ModelSet models = tools::models_without_data(job);
  int64_t bytes = 0;
  for (const Component component : kind.components) {
    models.bind(component);
    for (const MetaSource::Entry& tensor : models.tensors(component)) bytes += 2 * tensor.elements();
  }
  return bytes;
}

// Throws where random weights do not fit: they have no file to stay in.
void check_memory(const run::Job& job, const std::vector<const BenchKind*>& kinds) {
  const std::optional<int64_t> available = memory_info().available;
  if (tools::has_weights(job) || !available) return;
  for (const BenchKind* kind : kinds) {
    const int64_t bytes = random_bytes(job, *kind);
    if (bytes < *available) continue;
    throw OutOfMemoryError(fmt::format(
        "{}: random weights for the stage \"{}\" take {}, and {} are available; give `model_dir`, the `config` of a "
        "smaller model, or `stages` without it",
        job.request.config.name, kind->stage, format_bytes(bytes), format_bytes(*available)));
  }
}

// Checks all weights that the stages bind, before the first stage is timed.
void check_weights(const run::Job& job, const std::vector<const BenchKind*>& kinds) {
  if (!tools::has_weights(job)) return;
  std::vector<Component> components;
  for (const Component component : {Component::kModel, Component::kAe, Component::kT5, Component::kClip}) {
    const auto binds = [&](const BenchKind* kind) {
      return std::find(kind->components.begin(), kind->components.end(), component) != kind->components.end();
    };
    if (std::any_of(kinds.begin(), kinds.end(), binds)) components.push_back(component);
  }
  check_models(components, models::choice_of(job.request));
}

void check_counts(const BenchRequest& request) {
  if (request.warmup < 0) throw UsageError(fmt::format("`warmup`: expected 0 or more, found {}", request.warmup));
  if (request.repetitions < 1) {
    throw UsageError(fmt::format("`repetitions`: expected 1 or more, found {}", request.repetitions));
  }
}

BenchReport describe(const run::Job& job) {
  BenchReport report;
  report.device = job.device.str();
  report.dtype = dtype_name(job.dtype);
  report.computing = computing_text(job.dtype, job.device);
  report.cpu = fmt::format("{}, {}", cpu_info().model, at::get_cpu_capability());
  report.threads = at::get_num_threads();
  report.config = job.request.config.name;
  report.random_weights = !tools::has_weights(job);
  report.width = job.size.width;
  report.height = job.size.height;
  report.frames = job.request.config.sampling.num_frames;
  return report;
}

std::optional<double> share_of_peak(const BenchStage& stage, const std::vector<BenchProbe>& probes) {
  if (stage.flops() == 0) return std::nullopt;
  const double products = stage.linear_flops + stage.convolution_flops;
  const double predicted = products / probes[0].flops_per_second + stage.attention_flops / probes[1].flops_per_second;
  return predicted / stage.median();
}

constexpr int64_t kFactors[] = {1, 2, 4, 8};
constexpr int64_t kWarmup = 1, kRepetitions = 2;

const BenchKind& kind_of(const std::string& stage) {
  const auto& kinds = tools::bench_kinds();
  return *std::find_if(kinds.begin(), kinds.end(), [&](const BenchKind& kind) { return kind.stage == stage; });
}

GenerateRequest with_size(const GenerateRequest& run, int64_t width, int64_t height) {
  GenerateRequest changed = run;
  SamplingConfig& s = changed.config.sampling;
  s.resolution = s.aspect_ratio = std::nullopt;
  s.width = width;
  s.height = height;
  return changed;
}

ScalingPoint point_of(const std::string& quantity, int64_t value, const run::Job& job, const BenchStage& stage) {
  return {.quantity = quantity,
          .value = value,
          .width = job.size.width,
          .height = job.size.height,
          .frames = job.request.config.sampling.num_frames,
          .tokens = job.image_tokens(),
          .stage = stage.stage,
          .seconds = stage.median(),
          .flops = stage.flops(),
          .peak_resident_bytes = stage.peak_resident_bytes,
          .peak_device_bytes = stage.peak_device_bytes};
}

BenchStage run_stage(const run::Job& job, const std::string& name, const ProgressCallback& progress) {
  return tools::run_bench_stage(job, kind_of(name), kWarmup, kRepetitions, progress);
}

// None of these stages writes files: their jobs need no folder.
void scale_tokens(const GenerateRequest& run, const ProgressCallback& progress, std::vector<ScalingPoint>& points) {
  const run::Job base = tools::make_bench_job(run, {});
  for (const int64_t factor : kFactors) {
    const int64_t wide = factor == 8 ? 4 : std::min<int64_t>(factor, 2), high = factor / wide;
    const run::Job job = tools::make_bench_job(with_size(run, base.size.width * wide, base.size.height * high), {});
    points.push_back(point_of("tokens", job.image_tokens(), job, run_stage(job, "step", progress)));
  }
}

void scale_frames(const GenerateRequest& run, const ProgressCallback& progress, std::vector<ScalingPoint>& points) {
  for (const char* name : {"step", "decode"}) {
    for (const int64_t factor : kFactors) {
      GenerateRequest longer = run;
      longer.config.sampling.num_frames = 1 + (factor - 1) * run.config.sampling.temporal_reduction;
      const run::Job job = tools::make_bench_job(longer, {});
      points.push_back(point_of("frames", longer.config.sampling.num_frames, job, run_stage(job, name, progress)));
    }
  }
}

// From one run of the most steps: what it had taken by each number of them.
void scale_steps(const GenerateRequest& run, const ProgressCallback& progress, std::vector<ScalingPoint>& points) {
  const run::Job job = tools::make_bench_job(run, {});
  const int64_t most = kFactors[std::size(kFactors) - 1];
  const BenchStage all = tools::run_bench_stage(job, kind_of("step"), /*warmup=*/0, most, progress);
  for (const int64_t steps : kFactors) {
    ScalingPoint some = point_of("steps", steps, job, all);
    some.stage = "denoise";
    some.seconds = std::accumulate(all.seconds.begin(), all.seconds.begin() + steps, 0.0);
    some.flops = all.flops() * static_cast<double>(steps);
    points.push_back(some);
  }
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
  for (const BenchKind& kind : tools::bench_kinds()) names.push_back(kind.stage);
  return names;
}

BenchReport bench(const BenchRequest& request, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  check_counts(request);
  const std::vector<const BenchKind*> kinds = chosen_stages(request);
  const tools::ScratchFolder folder("bench");
  const run::Job job = tools::make_bench_job(request.run, folder.path());
  check_memory(job, kinds);
  check_weights(job, kinds);
  run::prepare_machine(job.request);
  run::settle_attention({&job, 1});
  BenchReport report = describe(job);
  report.probes = tools::run_probes(job, progress);
  for (const BenchKind* kind : kinds) {
    report.stages.push_back(tools::run_bench_stage(job, *kind, request.warmup, request.repetitions, progress));
    report.stages.back().share_of_peak = share_of_peak(report.stages.back(), report.probes);
  }
  return report;
}

std::vector<ScalingPoint> bench_scaling(const GenerateRequest& run, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  run::prepare_machine(run);
  std::vector<ScalingPoint> points;
  scale_tokens(run, progress, points);
  scale_frames(run, progress, points);
  scale_steps(run, progress, points);
  return points;
}

}  // namespace opensora
