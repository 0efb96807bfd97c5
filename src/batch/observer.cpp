#include "batch/observer.h"

#include <spdlog/fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "batch/stage_seconds.h"
#include "core/failure.h"
#include "media/png_note.h"
#include "media/sha256.h"
#include "opensora/error.h"
#include "opensora/plan.h"

namespace opensora::batch {
namespace {

using nlohmann::ordered_json;
using pipeline::Video;

double seconds_since(std::chrono::steady_clock::time_point start) {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return std::round(seconds * 1000) / 1000;
}

ordered_json file_fields(const std::filesystem::path& path) {
  return {{"bytes", std::filesystem::file_size(path)}, {"sha256", media::sha256_of_file(path)}};
}

// As it will be when the video is done.
ordered_json picture_fields(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string content = media::without_note({std::istreambuf_iterator<char>(stream), {}});
  return {{"bytes", content.size()}, {"sha256", media::sha256_of_text(content)}};
}

// Empty: none that plan_run() tries does, or there is no memory left to find out.
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

ordered_json identity_of(const Task& task) {
  ordered_json fields = {{"row", task.row}, {"sample", task.sample}, {"key", task.key}};
  if (!task.place.empty()) fields["place"] = task.place;
  fields["seed"] = task.video.plan.seed;
  fields["output"] = task.video.plan.output.string();
  return fields;
}

ordered_json BatchObserver::identity(const Video& video) const { return identity_of(*tasks_[index(video)]); }

void BatchObserver::progress(const Video* video, const Progress& progress) {
  Progress numbered = progress;
  numbered.videos = static_cast<int64_t>(videos_.size());
  if (video != nullptr) {
    numbered.video = static_cast<int64_t>(index(*video)) + 1;
    if (events_.has_listener()) tell_progress(*video, progress);
  }
  if (callbacks_.progress) callbacks_.progress(numbered);
}

void BatchObserver::tell_progress(const Video& video, const Progress& progress) {
  const auto stage = std::pair(&video, std::string(progress.stage));
  if (progress.done == 0) stages_[stage] = Clock::now();
  ordered_json fields = identity(video);
  fields["stage"] = progress.stage;
  if (progress.total == 0) {
    events_.tell("stage_started", fields);
    return;
  }
  const double elapsed = seconds_since(stages_[stage]);
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

void BatchObserver::started(const Video& video) { events_.record("video_started", identity(video)); }

void BatchObserver::expected(const Video& video, double seconds, pipeline::ExpectedBy basis) {
  ordered_json fields = identity(video);
  fields["stage"] = "denoise";
  fields["seconds"] = std::round(seconds * 1e6) / 1e6;
  fields["basis"] = basis == pipeline::ExpectedBy::kTrial ? "trial" : "first_step";
  events_.tell("expected", fields);
}

void BatchObserver::picture_made(const Video& video) {
  if (video.request.image_only) return;
  ordered_json fields = identity(video);
  fields["picture"] = video.plan.picture.string();
  fields.update(picture_fields(video.plan.picture));
  events_.record("picture_done", fields);
}

void BatchObserver::sampled(const Video& video) {
  ordered_json fields = identity(video);
  fields["latent"] = video.plan.latent.string();
  fields["forwards"] = video.result.forwards;
  events_.record("video_sampled", fields);
}

void BatchObserver::done(const Video& video) {
  ordered_json fields = identity(video);
  fields.update(file_fields(video.plan.output));
  const GenerateResult& result = video.result;
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
  BatchVideo& report = *reports_[index(video)];
  report.state = BatchState::kDone;
  report.result = result;
  if (callbacks_.on_end) callbacks_.on_end(report);
  std::erase_if(stages_, [&](const auto& stage) { return stage.first.first == &video; });
}

std::vector<std::string> BatchObserver::tell_out_of_memory(const Video& video, ordered_json fields) const {
  std::vector<std::string> flags = flags_that_would_fit(video.request, base_);
  if (!flags.empty()) {
    spdlog::info("{}: it would fit with {}", video.plan.output.string(), fmt::join(flags, " "));
  }
  fields["flags"] = flags;
  events_.tell("out_of_memory", fields);
  return flags;
}

void BatchObserver::failed(const Video& video) {
  const Failure failure = describe_failure(video.error);
  ordered_json fields = identity(video);
  fields["code"] = failure.code;
  fields["error"] = failure.message;
  if (video.has_latent) fields["latent"] = video.plan.latent.string();
  BatchVideo& report = *reports_[index(video)];
  if (failure.code == static_cast<int>(ExitCode::kOutOfMemory)) report.flags = tell_out_of_memory(video, fields);
  events_.record("video_failed", fields);
  report.state = BatchState::kFailed;
  report.result = video.result;
  report.error = video.error;
  if (callbacks_.on_end) callbacks_.on_end(report);
  std::erase_if(stages_, [&](const auto& stage) { return stage.first.first == &video; });
}

}  // namespace opensora::batch
