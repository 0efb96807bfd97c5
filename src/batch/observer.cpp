#include "batch/observer.h"

#include <spdlog/fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "batch/events.h"
#include "core/failure.h"
#include "core/stopwatch.h"
#include "media/png.h"
#include "media/sha256.h"
#include "opensora/error.h"
#include "opensora/plan.h"
#include "request/parameter.h"

namespace opensora::batch {
namespace {

using nlohmann::ordered_json;
using run::Job;

double rounded_seconds_since(std::chrono::steady_clock::time_point start) {
  return std::round(seconds_since(start) * 1000) / 1000;
}

ordered_json file_fields(const std::filesystem::path& path) {
  return {{"bytes", std::filesystem::file_size(path)}, {"sha256", media::sha256_of_file(path)}};
}

// Of the picture as it will be when the video is done, without its note.
ordered_json picture_fields(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string content = media::without_note({std::istreambuf_iterator<char>(stream), {}});
  return {{"bytes", content.size()}, {"sha256", media::sha256_of_text(content)}};
}

// Empty where none that plan_run() tries would do, or where there is no memory left to find out.
std::vector<std::string> flags_that_would_fit(GenerateRequest request, const BaseMemory& base) {
  request.overwrite = true;  // its latent is there
  try {
    const RunPlan plan = plan_run(request, {.device_memory = {}, .base = base, .ran_out = true});
    return plan.memory ? plan.memory->flags : std::vector<std::string>{};
  } catch (const std::exception&) {
    return {};
  }
}

}  // namespace

ordered_json identity_of(const Job& job) {
  ordered_json fields = {{"row", job.row}, {"sample", job.sample}, {"key", job.key}};
  if (!job.place.empty()) fields["place"] = job.place;
  fields["seed"] = job.seed;
  fields["output"] = job.output.string();
  return fields;
}

void BatchObserver::progress(const Job* job, const Progress& progress) {
  Progress numbered = progress;
  numbered.videos = static_cast<int64_t>(jobs_.size());
  if (job != nullptr) {
    numbered.video = static_cast<int64_t>(index(*job)) + 1;
    if (events_.has_listener()) tell_progress(*job, progress);
  }
  if (callbacks_.progress) callbacks_.progress(numbered);
}

void BatchObserver::tell_progress(const Job& job, const Progress& progress) {
  const auto stage = std::pair(&job, std::string(progress.stage));
  if (progress.done == 0) stages_[stage] = Clock::now();
  ordered_json fields = identity_of(job);
  fields["stage"] = progress.stage;
  if (progress.total == 0) {
    events_.tell("stage_started", fields);
    return;
  }
  const double elapsed = rounded_seconds_since(stages_[stage]);
  const double remaining = elapsed / static_cast<double>(std::max<int64_t>(progress.done, 1)) *
                           static_cast<double>(progress.total - progress.done);
  fields["done"] = progress.done;
  fields["of"] = progress.total;
  fields["seconds"] = elapsed;
  fields["remaining_seconds"] = std::round(remaining * 1000) / 1000;
  const bool is_step = progress.stage == "denoise" || progress.stage == "image";
  events_.tell(is_step ? "step" : "progress", fields);
}

void BatchObserver::model_loaded(std::string_view model, double seconds) {
  events_.tell("model_loaded", {{"model", model}, {"seconds", std::round(seconds * 1000) / 1000}});
}

void BatchObserver::started(const Job& job) { events_.record("video_started", identity_of(job)); }

void BatchObserver::expected(const Job& job, double seconds, std::string_view basis) {
  ordered_json fields = identity_of(job);
  fields["stage"] = "denoise";
  fields["seconds"] = std::round(seconds * 1e6) / 1e6;
  fields["basis"] = basis;
  events_.tell("expected", fields);
}

void BatchObserver::picture_made(const Job& job) {
  if (job.request.image_only) return;
  ordered_json fields = identity_of(job);
  fields["picture"] = job.picture_file.string();
  fields.update(picture_fields(job.picture_file));
  events_.record("picture_done", fields);
}

void BatchObserver::sampled(const Job& job) {
  ordered_json fields = identity_of(job);
  fields["latent"] = job.latent_file.string();
  fields["forwards"] = job.result.forwards;
  if (!job.result.computed_steps.empty()) fields["computed_steps"] = job.result.computed_steps;
  events_.record("video_sampled", fields);
}

void BatchObserver::done(const Job& job) {
  ordered_json fields = identity_of(job);
  fields.update(file_fields(job.output));
  const GenerateResult& result = job.result;
  fields.update({{"width", result.width},
                 {"height", result.height},
                 {"frames", result.frames},
                 {"prompt", result.effective_prompt},
                 {"seconds", stage_seconds(result.seconds)},
                 {"peak_memory_bytes", result.peak_resident_bytes},
                 {"peak_device_memory_bytes", result.peak_device_bytes}});
  if (!result.suspicious.empty()) fields["suspicious"] = result.suspicious;
  if (!result.image.empty()) fields["image"] = result.image.string();
  if (!result.latent.empty()) fields["latent"] = result.latent.string();
  events_.record("video_done", fields);
  BatchVideo& report = *reports_[index(job)];
  report.state = BatchState::kDone;
  report.result = result;
  if (callbacks_.on_end) callbacks_.on_end(report);
  std::erase_if(stages_, [&](const auto& stage) { return stage.first.first == &job; });
}

std::vector<std::string> BatchObserver::tell_out_of_memory(const Job& job, ordered_json fields) const {
  std::vector<std::string> flags = flags_that_would_fit(job.request, base_);
  if (!flags.empty()) {
    spdlog::info("{}: it would fit with {}", job.output.string(), fmt::join(flags, " "));
  }
  fields["flags"] = request::with_flags(flags);
  events_.tell("out_of_memory", fields);
  return flags;
}

void BatchObserver::failed(const Job& job) {
  const Failure failure = describe_failure(job.error);
  ordered_json fields = identity_of(job);
  fields["code"] = failure.code;
  fields["error"] = request::with_flags(failure.message);
  if (job.has_latent) fields["latent"] = job.latent_file.string();
  BatchVideo& report = *reports_[index(job)];
  if (failure.code == static_cast<int>(ExitCode::kOutOfMemory)) report.flags = tell_out_of_memory(job, fields);
  events_.record("video_failed", fields);
  report.state = BatchState::kFailed;
  report.result = job.result;
  report.error = job.error;
  if (callbacks_.on_end) callbacks_.on_end(report);
  std::erase_if(stages_, [&](const auto& stage) { return stage.first.first == &job; });
}

}  // namespace opensora::batch
