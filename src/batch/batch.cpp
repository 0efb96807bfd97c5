#include "opensora/batch.h"

#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <system_error>

#include "batch/events.h"
#include "batch/observer.h"
#include "batch/resume.h"
#include "batch/run_end.h"
#include "batch/run_folder.h"
#include "batch/task.h"
#include "core/failure.h"
#include "opensora/error.h"
#include "opensora/stop.h"
#include "opensora/version.h"
#include "pipeline/identity.h"
#include "pipeline/remains.h"
#include "pipeline/run_models.h"
#include "pipeline/runner.h"
#include "pipeline/suspicious.h"
#include "pipeline/video_stages.h"
#include "pipeline/vocabulary.h"

namespace opensora {
namespace {

using batch::Events;
using batch::History;
using batch::Journal;
using batch::RunFolder;
using batch::Task;
using nlohmann::ordered_json;

pipeline::Overlap parse_overlap(const std::string& name) {
  if (name == "on") return pipeline::Overlap::kOn;
  if (name == "off") return pipeline::Overlap::kOff;
  if (name == "auto") return pipeline::Overlap::kAuto;
  throw UsageError("--overlap: expected on, off or auto, found \"" + name + "\"");
}

void check_options(const std::vector<BatchRow>& rows, const BatchOptions& options) {
  if (options.samples < 1)
    throw UsageError(fmt::format("--num-samples: expected 1 or more, found {}", options.samples));
  if (options.shards < 1 || options.shard < 1 || options.shard > options.shards) {
    throw UsageError(
        fmt::format("--shard: expected I/N with I from 1 to N, found {}/{}", options.shard, options.shards));
  }
  if (options.resume && options.output_dir.empty()) {
    throw UsageError("--resume needs --output-dir: the journal is there");
  }
  if (rows.empty()) throw UsageError(options.prompts_file + ": has no prompts");
}

void keep_own_shard(std::vector<Task>& tasks, const BatchOptions& options) {
  std::erase_if(tasks, [&](const Task& task) { return (task.row - 1) % options.shards != options.shard - 1; });
}

// In a folder with a journal there is more to say of it than that of a file alone.
void refuse_existing(const pipeline::Video& video, bool resume) {
  const std::filesystem::path& output = video.request.output;
  std::error_code ignored;
  if (video.request.overwrite || !std::filesystem::exists(std::filesystem::symlink_status(output, ignored))) return;
  throw OutputError(output.string() +
                    (resume ? " exists and is not of this run; give --overwrite"
                            : " exists; give --resume to go on with the run that made it, "
                              "--overwrite to replace it") +
                    ", or another --output-dir or --name-template");
}

// Which files it may write, and what of it is there already.
void settle(Task& task, const pipeline::CheckpointIdentities& checkpoints, const History& history,
            const BatchOptions& options) {
  throw_if_stopped();
  pipeline::Video& video = task.video;
  const bool is_own = history.owns(task) || pipeline::is_finished(video.request.output, task.key);
  if (is_own) video.request.overwrite = true;
  if (!options.output_dir.empty()) refuse_existing(video, options.resume);
  pipeline::settle_output(video);
  pipeline::settle_metadata(video, checkpoints);
  task.is_done = history.is_done(task);
  if (task.is_done) return;
  pipeline::find_remains(video, task.key, options.keep_latents);
  if (video.has_latent && history.has_left_latent(task)) video.latent_is_marked = true;
}

bool encodes_pictures(const Task& task) {
  return !task.video.request.references.empty() || task.video.plan.makes_picture;
}

void check_texts(const std::vector<Task>& tasks) {
  std::vector<const pipeline::Video*> videos;
  videos.reserve(tasks.size());
  for (const Task& task : tasks) videos.push_back(&task.video);
  pipeline::check_video_texts(videos);
  std::vector<std::string> prompts;
  prompts.reserve(tasks.size());
  for (const Task& task : tasks) prompts.push_back(task.video.request.prompt);
  pipeline::warn_of_unknown_words(tasks.front().video.request.config, prompts);
}

BatchVideo report_of(const Task& task) {
  return {.state = BatchState::kNotRun,
          .result = task.video.result,
          .place = task.place,
          .row = task.row,
          .sample = task.sample,
          .key = task.key,
          .error = nullptr,
          .flags = {}};
}

// Before anything is made: a drawn seed must not be lost.
void record_plans(const std::vector<Task>& tasks, const Events& events, const History& history) {
  for (const Task& task : tasks) {
    const bool seed_is_known = !task.seed_is_drawn || history.seed(task.row_key);
    if (seed_is_known && history.owns(task)) continue;
    ordered_json fields = batch::identity_of(task);
    fields["prompt"] = task.video.request.prompt;
    if (task.seed_is_drawn) fields["row_key"] = task.row_key;
    events.record("video_planned", fields);
  }
}

class Batch {
 public:
  Batch(std::vector<Task> tasks, const BatchOptions& options, const BatchCallbacks& callbacks, const Events& events,
        const History& history);
  BatchResult run();

 private:
  void skip_finished();
  void run_rest();

  std::vector<Task> tasks_;
  const BatchOptions& options_;
  const BatchCallbacks& callbacks_;
  const Events& events_;
  const History& history_;
  BatchResult result_;
};

Batch::Batch(std::vector<Task> tasks, const BatchOptions& options, const BatchCallbacks& callbacks,
             const Events& events, const History& history)
    : tasks_(std::move(tasks)), options_(options), callbacks_(callbacks), events_(events), history_(history) {
  result_.videos.reserve(tasks_.size());
  for (const Task& task : tasks_) result_.videos.push_back(report_of(task));
}

void Batch::skip_finished() {
  for (size_t i = 0; i < tasks_.size(); ++i) {
    Task& task = tasks_[i];
    if (!task.is_done) continue;
    pipeline::settle_earlier_remains(task.video, task.key, options_.keep_latents, history_.has_left_latent(task));
    result_.videos[i].state = BatchState::kSkipped;
    events_.tell("video_skipped", batch::identity_of(task));
    if (callbacks_.on_end) callbacks_.on_end(result_.videos[i]);
  }
}

void Batch::run_rest() {
  std::vector<pipeline::Video> videos;
  std::vector<const Task*> tasks;
  std::vector<BatchVideo*> reports;
  const auto rest = static_cast<size_t>(result_.count(BatchState::kNotRun));
  videos.reserve(rest);
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (result_.videos[i].state != BatchState::kNotRun) continue;
    videos.push_back(tasks_[i].video);
    tasks.push_back(&tasks_[i]);
    reports.push_back(&result_.videos[i]);
    if (tasks_.size() > 1) videos.back().label = fmt::format("{}/{}: ", i + 1, tasks_.size());
  }
  batch::BatchObserver observer(videos, tasks, reports, events_, callbacks_);
  try {
    pipeline::run_videos(videos,
                         {.overlap = parse_overlap(options_.overlap),
                          .keep_models = options_.keep_models,
                          .keep_latents = options_.keep_latents,
                          .fail_fast = options_.fail_fast,
                          .timeout = options_.timeout},
                         observer);
  } catch (const InterruptedError&) {
    // Of a batch, --resume goes on with it.
    if (options_.output_dir.empty()) std::for_each(videos.begin(), videos.end(), pipeline::remove_remains);
    throw;
  }
  for (const pipeline::Video& video : videos) {
    if (!video.error || !video.has_latent) continue;
    spdlog::warn("the latent is kept in {}; \"opensora decode\" makes the video of it", video.plan.latent.string());
  }
}

BatchResult Batch::run() {
  const batch::RunEnd end(events_, result_);
  try {
    events_.record("run_started", {{"version", version()},
                                   {"videos", tasks_.size()},
                                   {"resume", options_.resume},
                                   {"shard", fmt::format("{}/{}", options_.shard, options_.shards)},
                                   {"device", tasks_.front().video.plan.device.str()},
                                   {"prompts_file", options_.prompts_file}});
    record_plans(tasks_, events_, history_);
    skip_finished();
    run_rest();
  } catch (...) {
    end.tell_error(std::current_exception());
    throw;
  }
  end.tell(batch::exit_code_of(result_, options_));
  return std::move(result_);
}

// What comes before the first event.
BatchResult run_tasks(const std::vector<BatchRow>& rows, const BatchOptions& options, const BatchCallbacks& callbacks,
                      batch::EventSink* sink, bool& has_started) {
  check_options(rows, options);
  pipeline::prepare_machine(rows.front().request);  // first: what cannot be computed need not be planned
  std::vector<Task> tasks = batch::make_tasks(rows, options);
  pipeline::check_model_files(rows.front().request, std::any_of(tasks.begin(), tasks.end(), encodes_pictures));
  const pipeline::CheckpointIdentities checkpoints = pipeline::identify_checkpoints(rows.front().request);
  const RunFolder folder(options);
  const History history = options.resume ? History(folder.journal()->earlier(), options.prompts_file) : History();
  batch::settle_seeds(tasks, checkpoints, history);
  batch::name_outputs(tasks, options, folder.path());
  keep_own_shard(tasks, options);
  const Events events(folder.journal(), sink);
  if (tasks.empty()) {
    events.tell("run_finished", batch::RunEnd::fields_of({}, 0));
    return {};
  }
  for (Task& task : tasks) settle(task, checkpoints, history, options);
  check_texts(tasks);
  if (Journal* journal = folder.journal()) {
    constexpr int64_t kBytesPerVideo = 8192;  // all lines of one, and then some
    journal->reserve(kBytesPerVideo * static_cast<int64_t>(tasks.size() + 1));
  }
  has_started = true;
  BatchResult result = Batch(std::move(tasks), options, callbacks, events, history).run();
  result.output_dir = folder.path();
  return result;
}

}  // namespace

GenerateResult generate(const GenerateRequest& request, const ProgressCallback& progress) {
  BatchRow row;
  row.request = request;
  BatchOptions options;
  options.overwrite = request.overwrite;
  options.keep_models = request.keep_models;
  options.strict = request.strict;
  const BatchResult result = run_batch({row}, options, {.progress = progress, .on_end = {}});
  return single_result(result, request.strict);
}

BatchResult run_batch(const std::vector<BatchRow>& rows, const BatchOptions& options, const BatchCallbacks& callbacks) {
  const c10::InferenceMode inference;
  std::optional<batch::EventSink> sink;
  if (!options.events.empty()) sink.emplace(options.events);
  bool has_started = false;
  try {
    return run_tasks(rows, options, callbacks, sink ? &*sink : nullptr, has_started);
  } catch (...) {
    if (!has_started && sink) batch::tell_failed_start(*sink, std::current_exception());
    throw;
  }
}

}  // namespace opensora
