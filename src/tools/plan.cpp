// The stages' figures put together: memory of the process, the file's size, and what to do where it does not fit.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/cpu_features.h"
#include "core/device.h"
#include "core/machine.h"
#include "core/threads.h"
#include "media/ffmpeg.h"
#include "models/offload.h"
#include "opensora/error.h"
#include "opensora/generate.h"
#include "opensora/plan.h"
#include "run/checkpoints.h"
#include "run/forecast.h"
#include "run/job.h"
#include "tools/simulation.h"

namespace opensora {
namespace {

// Ways to make a run need less memory.

// A flag, and what it does to a request.
struct Saving {
  std::string flag;  // to be added to the command line
  std::function<void(GenerateRequest&)> apply;
};
using Savings = std::vector<Saving>;  // together

// A smaller video than this is of no use to anybody.
constexpr int64_t kFewestFrames = 17, kSmallestEdge = 128;

bool is_tiled(const GenerateRequest& request) {
  return std::visit([](const auto& ae) { return ae.use_spatial_tiling && ae.use_temporal_tiling; }, request.config.ae);
}

Saving tiling() {
  return {"`vae_tiling`", [](GenerateRequest& request) {
            std::visit([](auto& ae) { ae.use_spatial_tiling = ae.use_temporal_tiling = true; }, request.config.ae);
          }};
}

Saving offload(const std::string& where) {
  return {"`offload` " + where, [where](GenerateRequest& request) { request.offload = where; }};
}

Saving bf16() {
  return {"`dtype` bf16", [](GenerateRequest& request) { request.dtype = "bf16"; }};
}

Saving frames(int64_t count) {
  return {fmt::format("`num_frames` {}", count),
          [count](GenerateRequest& request) { request.config.sampling.num_frames = count; }};
}

Saving video_size(PixelSize size) {
  return {fmt::format("-W {} -H {}", size.width, size.height), [size](GenerateRequest& request) {
            SamplingConfig& s = request.config.sampling;
            s.resolution = s.aspect_ratio = std::nullopt;
            s.width = size.width;
            s.height = size.height;
          }};
}

Savings plus(Savings savings, const Saving& another) {
  savings.push_back(another);
  return savings;
}

// Half as many frames, of the form 4k + 1, which all autoencoders make.
int64_t half_as_many(int64_t frames) { return frames / 2 / 4 * 4 + 1; }

void add_shorter(std::vector<Savings>& all, const Savings& before, int64_t whole) {
  for (int64_t n = half_as_many(whole); n >= kFewestFrames && n < whole; n = half_as_many(n)) {
    all.push_back(plus(before, frames(n)));
  }
}

GenerateRequest with(GenerateRequest request, const Savings& savings) {
  for (const Saving& saving : savings) saving.apply(request);
  return request;
}

// In the order in which a user would want them: what only costs time (where weights are, tiles, bf16), each with those
// before it; then fewer frames, then a smaller video. `dtype` is what the run computes in. Some may not be possible:
// planning them throws UsageError.
std::vector<Savings> savings_of(const GenerateRequest& request, at::Device device, at::ScalarType dtype,
                                PixelSize size) {
  std::vector<Savings> all;
  Savings same_video;
  const auto add = [&](const Saving& saving) { all.push_back(same_video = plus(same_video, saving)); };
  // The least of what there is: on the CPU weights that stay in their file.
  const std::string least = device.is_cpu() ? "model" : "block";
  const bool is_least = request.offload == least || (device.is_cpu() && request.offload == "auto");
  if (!is_least) add(offload(least));
  if (!is_tiled(request)) add(tiling());
  if (dtype == at::kFloat && !computes_in_float32(at::kBFloat16, device)) add(bf16());
  if (request.image_only) return all;
  const int64_t whole = request.config.sampling.num_frames;
  add_shorter(all, same_video, whole);
  const int64_t multiple = request.config.ae_spatial_compression;
  const auto half = [multiple](int64_t edge) { return (edge / 2 + multiple - 1) / multiple * multiple; };
  for (size = {half(size.width), half(size.height)}; std::min(size.width, size.height) >= kSmallestEdge;
       size = {half(size.width), half(size.height)}) {
    const Savings smaller = plus(same_video, video_size(size));
    all.push_back(smaller);
    add_shorter(all, smaller, whole);
  }
  return all;
}

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

// What is the same for all plans of a request, whatever flags are tried.
struct Circumstances {
  at::Device device;  // to plan for: it may be a GPU that is not here
  at::ScalarType dtype;
  BaseMemory base;
  bool published = false;  // without weights
};

at::Device planned_device(const GenerateRequest& request, const PlanOptions& options) {
  const bool need_not_be_here =
      options.device_memory && (request.device == "auto" || request.device.starts_with("cuda"));
  return need_not_be_here ? at::kCUDA : find_device(request.device);
}

RunPlan describe(const run::Job& job, const Circumstances& there) {
  const bool image_only = job.request.image_only;
  const PixelSize size = image_only ? job.picture_size : job.size;
  RunPlan run;
  run.output = job.output;
  run.condition = sampling::condition_name(job.condition);
  run.width = size.width;
  run.height = size.height;
  run.frames = image_only ? 1 : job.request.config.sampling.num_frames;
  run.steps = job.schedule.num_steps;
  run.tokens = job.image_tokens();
  run.device = there.device.is_cpu() ? "cpu" : "cuda";
  run.dtype = dtype_name(there.dtype);
  run.computing = computing_text(there.dtype, there.device);
  run.published = there.published;
  return run;
}

RunPlan plan_on(const GenerateRequest& request, const Circumstances& there, std::optional<int64_t> room) {
  GenerateRequest here = request;
  here.device = "cpu";  // the meta device stands in for any
  run::Job job = run::make_job(here);
  run::settle_output(job);
  job.dtype = there.dtype;
  if (!there.published) run::check_model_files(request, !request.references.empty() || job.makes_picture);
  RunPlan run = describe(job, there);
  run.stages = tools::simulate(job, there.device, room, there.published);
  for (StagePlan& stage : run.stages) {
    run.budget_bytes = std::max(run.budget_bytes, stage.anonymous_bytes);
    if (there.device.is_cpu()) {
      int64_t besides = heap_slack(stage.anonymous_bytes);
      if (stage.encodes && run.frames > 1) besides += encoder_bytes(run, request);
      stage.peak_bytes += there.base.resident + besides;
      stage.anonymous_bytes += there.base.anonymous + besides;
    }
    run.anonymous_bytes = std::max(run.anonymous_bytes, stage.anonymous_bytes);
    run.peak_bytes = std::max(run.peak_bytes, stage.peak_bytes);
    run.flops += stage.flops;
  }
  if (there.device.is_cpu()) run.budget_bytes += there.base.anonymous - kLibraryBytes;
  run.output_bytes = run::expected_file_bytes(request, {run.width, run.height}, run.frames);
  return run;
}

constexpr const char* kLimit = "`max_memory`";

// What is free on a GPU now, with what this process holds of it; nullopt where it cannot be used.
std::optional<int64_t> free_on(const std::string& name) {
  try {
    const at::Device device = resolve_device(name);
    if (device.is_cpu()) return std::nullopt;
    const DeviceMemory memory = device_memory(device);
    return memory.free + memory.cached + memory.allocated;
  } catch (const std::exception& error) {
    spdlog::debug("{}: {}", name, error.what());
    return std::nullopt;
  }
}

// Of a GPU that is here; nullopt: nobody tells.
std::optional<MemoryVerdict> memory_of_gpu(const std::string& name) {
  MemoryVerdict verdict;
  const std::vector<GpuInfo>& gpus = nvidia_gpus();
  const size_t colon = name.find(':');
  const size_t index = colon == std::string::npos ? 0 : std::strtoul(name.c_str() + colon + 1, nullptr, 10);
  if (index < gpus.size()) {
    verdict.available_bytes = gpus[index].memory_bytes;
    verdict.source = gpus[index].name;
  }
  if (const auto free = free_on(name)) {
    verdict.available_bytes = *free;
    verdict.source = (verdict.source.empty() ? name : verdict.source) + ", free";
  }
  if (verdict.available_bytes == 0) return std::nullopt;
  verdict.reserve_bytes = models::kDeviceReserve;
  return verdict;
}

std::optional<MemoryVerdict> memory_of_cpu() {
  const std::optional<int64_t> available = memory_info().available;
  if (!available) return std::nullopt;
  MemoryVerdict verdict;
  verdict.available_bytes = *available + anonymous_bytes();  // what this process holds is in the plan's figures
  verdict.source = "available on this machine";
  return verdict;
}

// What the run may allocate.
int64_t room_of(const MemoryVerdict& memory) { return memory.available_bytes - memory.reserve_bytes; }

// nullopt: nobody tells.
std::optional<MemoryVerdict> memory_of(const GenerateRequest& request, at::Device device, const PlanOptions& options) {
  std::optional<MemoryVerdict> own;
  if (options.device_memory) {
    own.emplace();
    own->available_bytes = *options.device_memory;
    own->source = "`device_memory`";
    own->reserve_bytes = device.is_cpu() ? 0 : models::kDeviceReserve;
  } else if (!device.is_cpu()) {
    own = memory_of_gpu(request.device);
  }
  if (request.max_memory > 0) {
    MemoryVerdict limit;
    limit.available_bytes = request.max_memory;
    limit.source = kLimit;
    if (device.is_cpu() || !own || limit.available_bytes <= room_of(*own)) return limit;
  }
  return own || !device.is_cpu() ? own : memory_of_cpu();
}

int64_t needed_bytes(const RunPlan& run, const MemoryVerdict& memory) {
  return memory.source == kLimit ? run.budget_bytes : run.anonymous_bytes + memory.reserve_bytes;
}

// What the run needs with these savings, if that fits.
std::optional<int64_t> needed_with(const Savings& savings, const GenerateRequest& request,
                                   const Circumstances& circumstances, const MemoryVerdict& memory) {
  try {
    const GenerateRequest changed = with(request, savings);
    Circumstances there = circumstances;
    there.dtype = resolve_dtype(changed.dtype, there.device);
    const int64_t needed = needed_bytes(plan_on(changed, there, room_of(memory)), memory);
    return needed <= memory.available_bytes ? std::optional(needed) : std::nullopt;
  } catch (const UsageError&) {  // too short for its reference, …
    return std::nullopt;
  }
}

// Where the limit is the user's own, advises a higher one: a twentieth above what is planned, as another process holds
// a little more or less, and at least a quarter above the old one if the plan was wrong about it.
void raise_limit(const GenerateRequest& request, at::Device device, bool ran_out, MemoryVerdict& memory) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  const int64_t least = std::max(memory.needed_bytes / 20 * 21, ran_out ? request.max_memory / 4 * 5 : 0);
  const int64_t limit = (least / kMiB + 1) * kMiB;
  if (device.is_cpu() && memory_info().available.value_or(0) + anonymous_bytes() < limit) return;
  memory.flags = {fmt::format("{} {}MiB", kLimit, limit / kMiB)};
  memory.peak_with_flags = memory.needed_bytes;
}

// Names the first of the sets of flags that make the run fit, by planning it with them, less those that do not help.
void find_flags(const GenerateRequest& request, const RunPlan& run, const Circumstances& circumstances,
                MemoryVerdict& memory) {
  const auto try_with = [&](const Savings& savings) { return needed_with(savings, request, circumstances, memory); };
  for (Savings savings : savings_of(request, circumstances.device, circumstances.dtype, {run.width, run.height})) {
    std::optional<int64_t> needed = try_with(savings);
    if (!needed) continue;
    for (size_t i = 0; i + 1 < savings.size();) {
      Savings fewer = savings;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      if (const auto without = try_with(fewer)) {
        savings = fewer;
        needed = without;
      } else {
        ++i;
      }
    }
    for (const Saving& saving : savings) memory.flags.push_back(saving.flag);
    memory.peak_with_flags = *needed;
    return;
  }
}

void add_seconds(const GenerateRequest& request, at::ScalarType dtype, RunPlan& run) {
  const c10::InferenceMode inference;
  const run::Rates rates =
      run::measure_rates(request.config, run.tokens + request.config.t5.max_length, dtype, /*with_convolutions=*/true);
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
  const at::Device device = planned_device(request, options);
  Circumstances here{.device = device,
                     .dtype = resolve_dtype(request.dtype, device),
                     .base = options.base ? *options.base : base_memory()};
  here.base.resident += kLibraryBytes;
  here.base.anonymous += kLibraryBytes;
  here.published = options.may_lack_weights && run::lacks_weights(request);
  std::optional<MemoryVerdict> memory = memory_of(request, device, options);
  RunPlan run = plan_on(request, here, memory ? std::optional(room_of(*memory)) : std::nullopt);
  if (options.measures_time && device.is_cpu()) add_seconds(request, here.dtype, run);
  run.memory = std::move(memory);
  if (!run.memory) return run;
  MemoryVerdict& verdict = *run.memory;
  verdict.needed_bytes = needed_bytes(run, verdict);
  if (options.ran_out) verdict.available_bytes = std::min(verdict.available_bytes, verdict.needed_bytes - 1);
  verdict.fits = verdict.needed_bytes <= verdict.available_bytes;
  if (!verdict.fits) find_flags(request, run, here, verdict);
  if (!verdict.fits && verdict.flags.empty() && verdict.source == kLimit) {
    raise_limit(request, device, options.ran_out, verdict);
  }
  return run;
}

}  // namespace opensora
