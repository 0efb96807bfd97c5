// The stages' figures put together: memory of the process, the file's size, and what to do where it does not fit.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>
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
#include "tools/device_table.h"
#include "tools/roofline.h"
#include "tools/savings.h"
#include "tools/simulation.h"

namespace opensora {
namespace {

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
  bool published = false;          // without weights
  bool has_fp8_attention = false;  // the device has its kernel
};

at::Device planned_device(const GenerateRequest& request, const PlanOptions& options) {
  if (!options.gpu.empty()) {
    tools::find_gpu(options.gpu);
    if (request.device == "cpu") throw UsageError("`device` cpu: a GPU cannot be planned for with it");
    return at::kCUDA;
  }
  const bool need_not_be_here =
      options.device_memory && (request.device == "auto" || request.device.starts_with("cuda"));
  return need_not_be_here ? at::kCUDA : find_device(request.device);
}

// A GPU of the table has bfloat16, whatever the one has that is here.
at::ScalarType planned_dtype(const GenerateRequest& request, at::Device device, const PlanOptions& options) {
  return resolve_dtype(request.dtype.empty() && !options.gpu.empty() ? "bf16" : request.dtype, device);
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
  if (job.request.attention == "fp8" || job.wants_fp8_attention) {  // auto: where there is its kernel
    run.computing += there.has_fp8_attention ? ", attention in fp8 (an estimate, by a published figure)"
                                             : ", attention exact: its fp8 takes an H100, H200 or B200";
  }
  run.published = there.published;
  return run;
}

RunPlan plan_on(const GenerateRequest& request, const Circumstances& there, std::optional<int64_t> room) {
  GenerateRequest here = request;
  here.device = "cpu";  // the meta device stands in for any
  run::Job job = run::make_job(here);
  run::settle_output(job);
  job.dtype = there.dtype;
  job.wants_fp8_attention = job.wants_fp8_attention && there.has_fp8_attention;
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

std::string memory_source(const tools::GpuFigures& gpu) {
  return fmt::format("{}, of its {} GiB", gpu.name, gpu.memory_gib);
}

// The GPU that a device's name means, if there is one.
std::optional<GpuInfo> present_gpu(const std::string& name) {
  const std::vector<GpuInfo>& gpus = nvidia_gpus();
  const size_t colon = name.find(':');
  const size_t index = colon == std::string::npos ? 0 : std::strtoul(name.c_str() + colon + 1, nullptr, 10);
  return index < gpus.size() ? std::optional(gpus[index]) : std::nullopt;
}

// Of a GPU that is here; nullopt: nobody tells.
std::optional<MemoryVerdict> memory_of_gpu(const std::string& name) {
  MemoryVerdict verdict;
  if (const std::optional<GpuInfo> gpu = present_gpu(name)) {
    verdict.available_bytes = gpu->memory_bytes;
    verdict.source = gpu->name;
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
  } else if (!options.gpu.empty()) {
    const tools::GpuFigures& gpu = tools::find_gpu(options.gpu);
    own.emplace();
    own->available_bytes = tools::usable_memory(gpu);
    own->source = memory_source(gpu);
    own->reserve_bytes = models::kDeviceReserve;
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

// The plan with these savings, if it fits.
std::optional<RunPlan> plan_with(const tools::Savings& savings, const GenerateRequest& request,
                                 const Circumstances& circumstances, const MemoryVerdict& memory) {
  try {
    const GenerateRequest changed = tools::with_savings(request, savings);
    Circumstances there = circumstances;
    if (changed.dtype != request.dtype) there.dtype = resolve_dtype(changed.dtype, there.device);
    RunPlan run = plan_on(changed, there, room_of(memory));
    return needed_bytes(run, memory) <= memory.available_bytes ? std::optional(std::move(run)) : std::nullopt;
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
// Returns the plan with these.
std::optional<RunPlan> find_flags(const GenerateRequest& request, const RunPlan& run,
                                  const Circumstances& circumstances, MemoryVerdict& memory) {
  const auto try_with = [&](const tools::Savings& savings) {
    return plan_with(savings, request, circumstances, memory);
  };
  for (tools::Savings savings :
       tools::savings_of(request, circumstances.device, circumstances.dtype, {run.width, run.height})) {
    std::optional<RunPlan> fitting = try_with(savings);
    if (!fitting) continue;
    for (size_t i = 0; i + 1 < savings.size();) {
      tools::Savings fewer = savings;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      if (std::optional<RunPlan> without = try_with(fewer)) {
        savings = fewer;
        fitting = std::move(without);
      } else {
        ++i;
      }
    }
    for (const tools::Saving& saving : savings) memory.flags.push_back(saving.flag);
    memory.peak_with_flags = needed_bytes(*fitting, memory);
    return fitting;
  }
  return std::nullopt;
}

// A run's plan, and that with the flags that make it fit.
struct Plans {
  RunPlan run;
  std::optional<RunPlan> with_flags;
};

void add_time(const tools::Roofline& speed, const std::string& whose, Plans& plans) {
  tools::add_seconds(speed, plans.run);
  plans.run.speed_of = whose;
  if (!plans.with_flags) return;
  tools::add_seconds(speed, *plans.with_flags);
  plans.run.memory->seconds_with_flags = plans.with_flags->seconds;
}

void add_gpu_time(const tools::GpuFigures& gpu, Plans& plans) {
  add_time(tools::roofline_of(gpu, plans.run.dtype != "fp32"), std::string(gpu.name), plans);
}

void add_cpu_time(const GenerateRequest& request, at::ScalarType dtype, Plans& plans) {
  const c10::InferenceMode inference;
  const int64_t tokens = plans.run.tokens + request.config.t5.max_length;
  const run::Rates rates = run::measure_rates(request.config, tokens, dtype, /*with_convolutions=*/true);
  add_time(tools::measured_roofline(rates), "this CPU", plans);
}

// Of the GPU that is to be planned for, if it is in the table.
const tools::GpuFigures* figures_of(const GenerateRequest& request, const PlanOptions& options) {
  if (!options.gpu.empty()) return &tools::find_gpu(options.gpu);
  const std::optional<GpuInfo> gpu = present_gpu(request.device);
  return gpu ? tools::find_present_gpu(gpu->name, gpu->memory_bytes) : nullptr;
}

Plans plan_memory(const GenerateRequest& request, const PlanOptions& options) {
  const at::Device device = planned_device(request, options);
  Circumstances here{.device = device,
                     .dtype = planned_dtype(request, device, options),
                     .base = options.base ? *options.base : base_memory()};
  here.base.resident += kLibraryBytes;
  here.base.anonymous += kLibraryBytes;
  here.published = options.may_lack_weights && run::lacks_weights(request);
  if (const tools::GpuFigures* gpu = device.is_cpu() ? nullptr : figures_of(request, options)) {
    here.has_fp8_attention = tools::has_fp8_attention(*gpu);
  }
  std::optional<MemoryVerdict> memory = memory_of(request, device, options);
  Plans plans{.run = plan_on(request, here, memory ? std::optional(room_of(*memory)) : std::nullopt), .with_flags = {}};
  RunPlan& run = plans.run;
  run.memory = std::move(memory);
  if (!run.memory) return plans;
  MemoryVerdict& verdict = *run.memory;
  verdict.needed_bytes = needed_bytes(run, verdict);
  if (options.ran_out) verdict.available_bytes = std::min(verdict.available_bytes, verdict.needed_bytes - 1);
  verdict.fits = verdict.needed_bytes <= verdict.available_bytes;
  if (!verdict.fits) plans.with_flags = find_flags(request, run, here, verdict);
  if (!verdict.fits && verdict.flags.empty() && verdict.source == kLimit) {
    raise_limit(request, device, options.ran_out, verdict);
  }
  return plans;
}

}  // namespace

BaseMemory base_memory() {
  media::has_encoder("libx264");  // opens FFmpeg's libraries
  const int64_t resident = resident_bytes();
  return {resident, std::min(resident, anonymous_bytes())};
}

RunPlan plan_run(const GenerateRequest& request, const PlanOptions& options) {
  use_threads(request.threads);
  Plans plans = plan_memory(request, options);
  if (plans.run.device == "cpu") {
    if (options.measures_time) add_cpu_time(request, resolve_dtype(request.dtype, at::kCPU), plans);
  } else if (const tools::GpuFigures* gpu = figures_of(request, options)) {
    add_gpu_time(*gpu, plans);
  }
  return std::move(plans.run);
}

std::vector<KnownGpu> known_gpus() {
  std::vector<KnownGpu> known;
  for (const tools::GpuFigures& gpu : tools::gpu_table()) {
    known.push_back({std::string(gpu.key), std::string(gpu.name), tools::usable_memory(gpu)});
  }
  return known;
}

std::vector<RunPlan> plan_for_all_gpus(const GenerateRequest& request, const PlanOptions& options) {
  use_threads(request.threads);
  std::map<std::pair<int, bool>, Plans> by_memory;  // and by whether attention is in 8 bits
  std::vector<RunPlan> all;
  for (const tools::GpuFigures& gpu : tools::gpu_table()) {
    const std::pair key(gpu.memory_gib, request.attention != "exact" && tools::has_fp8_attention(gpu));
    if (!by_memory.contains(key)) {
      PlanOptions its_options = options;
      its_options.gpu = gpu.key;
      its_options.device_memory.reset();
      by_memory.emplace(key, plan_memory(request, its_options));
    }
    Plans plans = by_memory.at(key);
    if (plans.run.memory->source != kLimit) plans.run.memory->source = memory_source(gpu);
    add_gpu_time(gpu, plans);
    all.push_back(std::move(plans.run));
  }
  return all;
}

}  // namespace opensora
