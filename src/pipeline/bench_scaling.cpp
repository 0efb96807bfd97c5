// How the cost of stages grows with tokens, frames and steps.
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <numeric>

#include "opensora/bench.h"
#include "pipeline/bench_stage.h"
#include "pipeline/bench_work.h"
#include "pipeline/video.h"

namespace opensora {
namespace {

using pipeline::BenchKind;
using pipeline::BenchSetup;

constexpr int64_t kFactors[] = {1, 2, 4, 8};
constexpr int64_t kWarmup = 1, kRepetitions = 2;

const BenchKind& kind_of(const std::string& stage) {
  const auto& kinds = pipeline::bench_kinds();
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

class Scaling {
 public:
  Scaling(const GenerateRequest& run, ProgressCallback progress) : run_(run), progress_(std::move(progress)) {}

  std::vector<ScalingPoint> measure() {
    tokens();
    frames();
    steps();
    return std::move(points_);
  }

 private:
  ScalingPoint point(const std::string& quantity, int64_t value, const BenchSetup& setup, const BenchStage& stage) {
    return {.quantity = quantity,
            .value = value,
            .width = setup.plan.size.width,
            .height = setup.plan.size.height,
            .frames = setup.request.config.sampling.num_frames,
            .tokens = setup.plan.image_tokens(),
            .stage = stage.stage,
            .seconds = stage.median(),
            .flops = stage.flops(),
            .peak_resident_bytes = stage.peak_resident_bytes,
            .peak_device_bytes = stage.peak_device_bytes};
  }

  void tokens() {
    const BenchSetup base = pipeline::make_bench_setup(run_, folder_.path());
    pipeline::prepare_machine(base.request);
    for (const int64_t factor : kFactors) {
      const int64_t wide = factor == 8 ? 4 : std::min<int64_t>(factor, 2), high = factor / wide;
      const BenchSetup setup = pipeline::make_bench_setup(
          with_size(run_, base.plan.size.width * wide, base.plan.size.height * high), folder_.path());
      points_.push_back(point("tokens", setup.plan.image_tokens(), setup, stage(setup, "step")));
    }
  }

  void frames() {
    for (const char* name : {"step", "decode"}) {
      for (const int64_t factor : kFactors) {
        GenerateRequest run = run_;
        run.config.sampling.num_frames = 1 + (factor - 1) * run.config.sampling.temporal_reduction;
        const BenchSetup setup = pipeline::make_bench_setup(run, folder_.path());
        points_.push_back(point("frames", run.config.sampling.num_frames, setup, stage(setup, name)));
      }
    }
  }

  // Of one run of as many steps as the most: what it took up to each.
  void steps() {
    const BenchSetup setup = pipeline::make_bench_setup(run_, folder_.path());
    const int64_t most = kFactors[std::size(kFactors) - 1];
    const BenchStage all = pipeline::run_bench_stage(setup, kind_of("step"), /*warmup=*/0, most, progress_);
    for (const int64_t steps : kFactors) {
      ScalingPoint some = point("steps", steps, setup, all);
      some.stage = "denoise";
      some.seconds = std::accumulate(all.seconds.begin(), all.seconds.begin() + steps, 0.0);
      some.flops = all.flops() * static_cast<double>(steps);
      points_.push_back(some);
    }
  }

  BenchStage stage(const BenchSetup& setup, const std::string& name) {
    return pipeline::run_bench_stage(setup, kind_of(name), kWarmup, kRepetitions, progress_);
  }

  GenerateRequest run_;
  ProgressCallback progress_;
  pipeline::BenchFolder folder_;
  std::vector<ScalingPoint> points_;
};

}  // namespace

std::vector<ScalingPoint> bench_scaling(const GenerateRequest& run, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  return Scaling(run, progress).measure();
}

}  // namespace opensora
