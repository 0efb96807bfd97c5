// The stages' figures put together: memory of the process, the file's size, and what to do where it does not fit.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <utility>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/machine.h"
#include "core/threads.h"
#include "media/ffmpeg.h"
#include "opensora/error.h"
#include "opensora/plan.h"
#include "pipeline/expected_time.h"
#include "pipeline/plan.h"
#include "pipeline/run_models.h"
#include "pipeline/savings.h"
#include "pipeline/simulation.h"
#include "pipeline/space.h"

namespace opensora {
namespace {

using pipeline::expected_file_bytes;
using pipeline::Plan;

// Resident beside tensors and weights, as measured with LibTorch 2.11 on x86-64 (scripts/check_plan.sh): pages of the
// libraries that a run touches and planning does not, oneDNN's generated code, threads.
constexpr int64_t kLibraryBytes = int64_t{18} << 20;

// glibc's heap returns nothing below twice its largest threshold for mapping a block: so much of what is free, or
// lies between blocks, stays resident. Small runs leave a part of it.
int64_t heap_slack(int64_t tensor_bytes) { return std::min<int64_t>(int64_t{64} << 20, tensor_bytes / 4); }

// x264 keeps some 60 frames (lookahead, references, threads), each in 4:2:0 with borders and half-size copies.
constexpr double kEncoderFrames = 60, kEncoderBytesPerPixel = 7;

int64_t encoder_bytes(const RunPlan& run, const GenerateRequest& request) {
  const PixelSize size = request.output_size.value_or(PixelSize{run.width, run.height});
  const double frames = std::min(static_cast<double>(run.frames), kEncoderFrames);
  return static_cast<int64_t>(static_cast<double>(size.width * size.height) * frames * kEncoderBytesPerPixel);
}

struct Target {
  at::Device device;
  at::ScalarType dtype;
};

// Which device to plan for: a GPU that is not here too.
Target plan_target(const GenerateRequest& request, const PlanOptions& options) {
  const bool gpu = request.device.starts_with("cuda") ||
                   (request.device == "auto" && (options.device_memory || nvidia_gpu_count() > 0));
  const at::Device device = gpu ? at::kCUDA : at::kCPU;
  return {device, resolve_dtype(request.dtype, device)};
}

RunPlan describe(const GenerateRequest& request, const Plan& plan, const Target& target) {
  RunPlan run;
  run.output = plan.output;
  run.condition = sampling::condition_name(plan.condition);
  const PixelSize size = request.image_only ? plan.picture_size : plan.size;
  run.width = size.width;
  run.height = size.height;
  run.frames = request.image_only ? 1 : request.config.sampling.num_frames;
  run.steps = plan.schedule.num_steps;
  run.tokens = plan.image_tokens();
  run.device = target.device.is_cpu() ? "cpu" : "cuda";
  run.dtype = dtype_name(target.dtype);
  run.computing = computing_text(target.dtype, target.device);
  return run;
}

// What all plans of a request have in common.
struct Circumstances {
  Target target;
  BaseMemory base;
  bool published = false;  // without weights
};

RunPlan plan_on(const GenerateRequest& request, const Circumstances& circumstances, std::optional<int64_t> free_bytes) {
  const auto& [target, base, published] = circumstances;
  GenerateRequest here = request;
  here.device = "cpu";  // the meta device stands in for any
  Plan plan = pipeline::make_plan(here);
  pipeline::plan_output(request, plan);
  plan.dtype = target.dtype;
  if (!published) pipeline::check_model_files(request, !request.references.empty() || plan.makes_picture);
  RunPlan run = describe(request, plan, target);
  run.published = published;
  run.stages =
      pipeline::simulate(request, plan, {.device = target.device, .free_bytes = free_bytes, .published = published});
  for (StagePlan& stage : run.stages) {
    run.budget_bytes = std::max(run.budget_bytes, stage.anonymous_bytes);
    if (target.device.is_cpu()) {
      int64_t besides = heap_slack(stage.anonymous_bytes);
      if (stage.encodes && run.frames > 1) besides += encoder_bytes(run, request);
      stage.peak_bytes += base.resident + besides;
      stage.anonymous_bytes += base.anonymous + besides;
    }
    run.anonymous_bytes = std::max(run.anonymous_bytes, stage.anonymous_bytes);
    run.peak_bytes = std::max(run.peak_bytes, stage.peak_bytes);
    run.flops += stage.flops;
  }
  if (target.device.is_cpu()) run.budget_bytes += base.anonymous - kLibraryBytes;
  run.output_bytes = expected_file_bytes(request, {run.width, run.height}, run.frames);
  return run;
}

constexpr const char* kLimit = "--max-memory";

// A GPU's memory as its driver reports it, or what is available to this process; nullopt: nobody tells.
std::optional<MemoryVerdict> memory_of(const GenerateRequest& request, const Target& target,
                                       const PlanOptions& options) {
  MemoryVerdict verdict;
  if (request.max_memory > 0) {
    verdict.available_bytes = request.max_memory;
    verdict.source = kLimit;
    return verdict;
  }
  if (options.device_memory) {
    verdict.available_bytes = *options.device_memory;
    verdict.source = "--device-memory";
    return verdict;
  }
  if (target.device.is_cpu()) {
    const std::optional<int64_t> available = memory_info().available;
    if (!available) return std::nullopt;
    verdict.available_bytes = *available + anonymous_bytes();  // what this process holds is in the plan's figures
    verdict.source = "available on this machine";
    return verdict;
  }
  const std::vector<GpuInfo> gpus = nvidia_gpus();
  const size_t colon = request.device.find(':');
  const size_t index = colon == std::string::npos ? 0 : std::strtoul(request.device.c_str() + colon + 1, nullptr, 10);
  if (index >= gpus.size() || gpus[index].memory_bytes == 0) return std::nullopt;
  verdict.available_bytes = gpus[index].memory_bytes;
  verdict.source = gpus[index].name;
  return verdict;
}

int64_t needed_bytes(const RunPlan& run, const MemoryVerdict& memory) {
  return memory.source == kLimit ? run.budget_bytes : run.anonymous_bytes;
}

// What is needed with them, if that fits.
std::optional<int64_t> needed_with(const pipeline::Savings& savings, const GenerateRequest& request,
                                   const Circumstances& circumstances, const MemoryVerdict& memory) {
  try {
    const GenerateRequest changed = pipeline::with(request, savings);
    Circumstances there = circumstances;
    there.target.dtype = resolve_dtype(changed.dtype, there.target.device);
    const int64_t needed = needed_bytes(plan_on(changed, there, memory.available_bytes), memory);
    return needed <= memory.available_bytes ? std::optional(needed) : std::nullopt;
  } catch (const UsageError&) {  // too short for its reference, …
    return std::nullopt;
  }
}

// Where the limit is the user's own: what is planned and a twentieth, as another process holds a little more or less;
// at least a quarter more than it was if the plan was wrong about it.
void raise_limit(const GenerateRequest& request, const Target& target, bool ran_out, MemoryVerdict& memory) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  const int64_t least = std::max(memory.needed_bytes / 20 * 21, ran_out ? request.max_memory / 4 * 5 : 0);
  const int64_t limit = (least / kMiB + 1) * kMiB;
  if (target.device.is_cpu() && memory_info().available.value_or(0) + anonymous_bytes() < limit) return;
  memory.flags = {fmt::format("{} {}MiB", kLimit, limit / kMiB)};
  memory.peak_with_flags = memory.needed_bytes;
}

// Names the first of the sets of flags that make the run fit, by planning it with them, less those that do not help.
void find_flags(const GenerateRequest& request, const RunPlan& run, const Circumstances& circumstances,
                MemoryVerdict& memory) {
  const Target& target = circumstances.target;
  const auto try_with = [&](const pipeline::Savings& savings) {
    return needed_with(savings, request, circumstances, memory);
  };
  for (pipeline::Savings savings :
       pipeline::savings_of(request, target.device, target.dtype, {run.width, run.height})) {
    std::optional<int64_t> needed = try_with(savings);
    if (!needed) continue;
    for (size_t i = 0; i + 1 < savings.size();) {
      pipeline::Savings fewer = savings;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      if (const auto without = try_with(fewer)) {
        savings = fewer;
        needed = without;
      } else {
        ++i;
      }
    }
    for (const pipeline::Saving& saving : savings) memory.flags.push_back(saving.flag);
    memory.peak_with_flags = *needed;
    return;
  }
}

void add_seconds(const GenerateRequest& request, at::ScalarType dtype, RunPlan& run) {
  const c10::InferenceMode inference;
  const pipeline::Rates rates =
      pipeline::measure_rates(request.config, run.tokens + request.config.t5.max_length, dtype, pipeline::Trial::kAll);
  run.seconds = 0;
  for (StagePlan& stage : run.stages) {
    stage.seconds = rates.seconds({.linear = stage.flops - stage.attention_flops - stage.convolution_flops,
                                   .convolution = stage.convolution_flops,
                                   .attention = stage.attention_flops});
    *run.seconds += *stage.seconds;
  }
}

}  // namespace

BaseMemory base_memory() {
  media::has_encoder("libx264");  // opens FFmpeg's libraries
  const int64_t resident = resident_bytes();
  return {resident, std::min(resident, anonymous_bytes())};
}

RunPlan plan_run(const GenerateRequest& request, const PlanOptions& options) {
  use_threads(request.threads);
  Circumstances here{.target = plan_target(request, options), .base = options.base ? *options.base : base_memory()};
  here.base.resident += kLibraryBytes;
  here.base.anonymous += kLibraryBytes;
  here.published = options.may_lack_weights && pipeline::lacks_weights(request);
  std::optional<MemoryVerdict> memory = memory_of(request, here.target, options);
  RunPlan run = plan_on(request, here, memory ? std::optional(memory->available_bytes) : std::nullopt);
  if (options.measures_time && here.target.device.is_cpu()) add_seconds(request, here.target.dtype, run);
  run.memory = std::move(memory);
  if (!run.memory) return run;
  MemoryVerdict& verdict = *run.memory;
  verdict.needed_bytes = needed_bytes(run, verdict);
  if (options.ran_out) verdict.available_bytes = std::min(verdict.available_bytes, verdict.needed_bytes - 1);
  verdict.fits = verdict.needed_bytes <= verdict.available_bytes;
  if (!verdict.fits) find_flags(request, run, here, verdict);
  if (!verdict.fits && verdict.flags.empty() && verdict.source == kLimit) {
    raise_limit(request, here.target, options.ran_out, verdict);
  }
  return run;
}

}  // namespace opensora
