#include "opensora/batch.h"

#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <system_error>

#include "batch/events.h"
#include "batch/jobs.h"
#include "batch/journal.h"
#include "batch/observer.h"
#include "core/failure.h"
#include "core/stopwatch.h"
#include "opensora/error.h"
#include "opensora/process.h"
#include "run/checkpoints.h"
#include "run/metadata.h"
#include "run/remains.h"
#include "run/runner.h"
#include "run/suspicious.h"
#include "run/text_stage.h"
#include "run/video_stages.h"

namespace opensora {
namespace {

using batch::Events;
using batch::History;
using batch::Journal;
using batch::RunFolder;
using nlohmann::ordered_json;
using run::Job;

void check_options(const std::vector<BatchRow>& rows, const BatchOptions& options) {
  if (options.samples < 1) {
    throw UsageError(fmt::format("`num_samples`: expected 1 or more, found {}", options.samples));
  }
  if (options.shards < 1 || options.shard < 1 || options.shard > options.shards) {
    throw UsageError(
        fmt::format("`shard`: expected I/N with I from 1 to N, found {}/{}", options.shard, options.shards));
  }
  if (options.resume && options.output_dir.empty()) {
    throw UsageError("`resume` needs `output_dir`: the journal is there");
  }
  if (rows.empty()) throw UsageError(options.prompts_file + ": has no prompts");
}

void keep_own_shard(std::vector<Job>& jobs, const BatchOptions& options) {
  std::erase_if(jobs, [&](const Job& job) { return (job.row - 1) % options.shards != options.shard - 1; });
}

// Where there is a journal, more can be said of a file that exists than of one alone.
void refuse_existing(const Job& job, bool resume) {
  const std::filesystem::path& output = job.request.output;
  std::error_code ignored;
  if (job.request.overwrite || !std::filesystem::exists(std::filesystem::symlink_status(output, ignored))) return;
  throw OutputError(output.string() +
                    (resume ? " exists and is not of this run; give `overwrite`"
                            : " exists; give `resume` to go on with the run that made it, "
                              "`overwrite` to replace it") +
                    ", or another `output_dir` or `name_template`");
}

// Settles which files the job may write, and how much of it is there already.
void settle(Job& job, const run::CheckpointIdentities& checkpoints, const History& history,
            const BatchOptions& options) {
  throw_if_stopped();
  const bool is_own = history.owns(job) || run::is_finished(job.request.output, job.key);
  if (is_own) job.request.overwrite = true;
  if (!options.output_dir.empty()) refuse_existing(job, options.resume);
  run::settle_output(job);
  run::settle_metadata(job, checkpoints);
  job.done = history.is_done(job);
  if (job.done) return;
  run::find_remains(job, options.keep_latents);
  if (job.has_latent && history.has_left_latent(job)) job.latent_is_marked = true;
}

bool encodes_pictures(const Job& job) { return !job.request.references.empty() || job.makes_picture; }

void check_texts(const std::vector<Job>& jobs) {
  run::check_video_texts(jobs);
  std::vector<std::string> prompts;
  prompts.reserve(jobs.size());
  for (const Job& job : jobs) prompts.push_back(job.request.prompt);
  run::warn_of_unknown_words(jobs.front().request.config, prompts);
}

BatchVideo report_of(const Job& job) {
  return {.state = BatchState::kNotRun,
          .result = job.result,
          .place = job.place,
          .row = job.row,
          .sample = job.sample,
          .key = job.key,
          .error = nullptr,
          .flags = {}};
}

// Before anything is made: a drawn seed must not be lost.
void record_plans(const std::vector<Job>& jobs, const Events& events, const History& history) {
  for (const Job& job : jobs) {
    const bool seed_is_known = !job.seed_is_drawn || history.seed(job.row_key);
    if (seed_is_known && history.owns(job)) continue;
    ordered_json fields = batch::identity_of(job);
    fields["prompt"] = job.request.prompt;
    if (job.seed_is_drawn) fields["row_key"] = job.row_key;
    events.record("video_planned", fields);
  }
}

// What the program exits with after the run: for a run of one video without a folder what became of that video, else
// BatchResult::exit_code().
int exit_code_of(const BatchResult& result, const BatchOptions& options) {
  const bool is_single = options.output_dir.empty() && result.videos.size() == 1;
  if (is_single && result.videos.front().error) return describe_failure(result.videos.front().error).code;
  return result.exit_code(options.strict);
}

class Batch {
 public:
  Batch(std::vector<Job> jobs, const BatchOptions& options, const BatchCallbacks& callbacks, const Events& events,
        const History& history);
  BatchResult run(run::Tokenizers tokenizers);

 private:
  void skip_finished();
  void run_rest(run::Tokenizers tokenizers);
  // Tells how the run ended. Throws OutputError where the journal cannot be written; --events then has that error's
  // code.
  void finish(int exit_code);
  // The same for a run that `error` stops, which is more to the point than a journal that cannot be written either.
  void fail(const std::exception_ptr& error);
  void take_time() { result_.seconds = seconds_since(start_); }

  std::vector<Job> jobs_;
  const BatchOptions& options_;
  const BatchCallbacks& callbacks_;
  const Events& events_;
  const History& history_;
  BatchResult result_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Batch::Batch(std::vector<Job> jobs, const BatchOptions& options, const BatchCallbacks& callbacks, const Events& events,
             const History& history)
    : jobs_(std::move(jobs)), options_(options), callbacks_(callbacks), events_(events), history_(history) {
  result_.videos.reserve(jobs_.size());
  for (const Job& job : jobs_) result_.videos.push_back(report_of(job));
}

void Batch::skip_finished() {
  for (size_t i = 0; i < jobs_.size(); ++i) {
    Job& job = jobs_[i];
    if (!job.done) continue;
    run::settle_earlier_remains(job, options_.keep_latents, history_.has_left_latent(job));
    result_.videos[i].state = BatchState::kSkipped;
    events_.tell("video_skipped", batch::identity_of(job));
    if (callbacks_.on_end) callbacks_.on_end(result_.videos[i]);
  }
}

void Batch::run_rest(run::Tokenizers tokenizers) {
  std::vector<Job> jobs;
  std::vector<BatchVideo*> reports;
  jobs.reserve(static_cast<size_t>(result_.count(BatchState::kNotRun)));
  for (size_t i = 0; i < jobs_.size(); ++i) {
    if (result_.videos[i].state != BatchState::kNotRun) continue;
    jobs.push_back(jobs_[i]);
    reports.push_back(&result_.videos[i]);
    if (jobs_.size() > 1) jobs.back().label = fmt::format("{}/{}: ", i + 1, jobs_.size());
  }
  batch::BatchObserver observer(jobs, reports, events_, callbacks_);
  try {
    run::run_jobs(jobs, options_, observer, std::move(tokenizers));
  } catch (const InterruptedError&) {
    // A batch can be taken up again with --resume.
    if (options_.output_dir.empty()) std::for_each(jobs.begin(), jobs.end(), run::remove_remains);
    throw;
  }
  for (const Job& job : jobs) {
    if (!job.error || !job.has_latent) continue;
    spdlog::warn("the latent is kept in {}; \"opensora decode\" makes the video of it", job.latent_file.string());
  }
}

void Batch::finish(int exit_code) {
  take_time();
  try {
    events_.record("run_finished", batch::run_fields(result_, exit_code));
  } catch (...) {
    fail(std::current_exception());
    throw;
  }
}

void Batch::fail(const std::exception_ptr& error) {
  take_time();
  const ordered_json fields = batch::run_fields(result_, describe_failure(error));
  try {
    events_.record("run_finished", fields);
  } catch (const OutputError& unwritten) {
    spdlog::warn(unwritten.what());
    events_.tell("run_finished", fields);
  }
}

BatchResult Batch::run(run::Tokenizers tokenizers) {
  try {
    events_.record("run_started", {{"version", version()},
                                   {"videos", jobs_.size()},
                                   {"resume", options_.resume},
                                   {"shard", fmt::format("{}/{}", options_.shard, options_.shards)},
                                   {"device", jobs_.front().device.str()},
                                   {"prompts_file", options_.prompts_file}});
    record_plans(jobs_, events_, history_);
    skip_finished();
    run_rest(std::move(tokenizers));
  } catch (...) {
    fail(std::current_exception());
    throw;
  }
  finish(exit_code_of(result_, options_));
  return std::move(result_);
}

// Does all that comes before the first event, and then runs the batch.
BatchResult run_rows(const std::vector<BatchRow>& rows, const BatchOptions& options, const BatchCallbacks& callbacks,
                     batch::EventSink* sink, bool& has_started) {
  check_options(rows, options);
  run::prepare_machine(rows.front().request);  // first: what cannot be computed need not be planned
  std::vector<Job> jobs = batch::make_jobs(rows, options);
  run::Tokenizers tokenizers =
      run::check_model_files(rows.front().request, std::any_of(jobs.begin(), jobs.end(), encodes_pictures));
  const run::CheckpointIdentities checkpoints = run::identify_checkpoints(rows.front().request);
  const RunFolder folder(options);
  const History history = options.resume ? History(folder.journal()->earlier(), options.prompts_file) : History();
  batch::settle_seeds(jobs, checkpoints, history);
  batch::name_outputs(jobs, rows, options, folder.path());
  keep_own_shard(jobs, options);
  const Events events(folder.journal(), sink);
  if (jobs.empty()) {
    events.tell("run_finished", batch::run_fields({}, 0));
    return {};
  }
  for (Job& job : jobs) settle(job, checkpoints, history, options);
  check_texts(jobs);
  if (Journal* journal = folder.journal()) {
    constexpr int64_t kBytesPerVideo = 8192;  // all lines of one, and then some
    journal->reserve(kBytesPerVideo * static_cast<int64_t>(jobs.size() + 1));
  }
  has_started = true;
  BatchResult result = Batch(std::move(jobs), options, callbacks, events, history).run(std::move(tokenizers));
  result.output_dir = folder.path();
  return result;
}

}  // namespace

int64_t BatchResult::count(BatchState state) const {
  return std::count_if(videos.begin(), videos.end(), [&](const BatchVideo& video) { return video.state == state; });
}

int BatchResult::exit_code(bool strict) const {
  const bool all = count(BatchState::kFailed) == 0 && count(BatchState::kNotRun) == 0;
  if (!all) return static_cast<int>(ExitCode::kPartlyFailed);
  const bool suspicious = std::any_of(videos.begin(), videos.end(),
                                      [](const BatchVideo& video) { return !video.result.suspicious.empty(); });
  return static_cast<int>(strict && suspicious ? ExitCode::kSuspicious : ExitCode::kSuccess);
}

GenerateResult single_result(const BatchResult& result, bool strict) {
  const BatchVideo& video = result.videos.front();
  if (!video.flags.empty()) throw OutOfMemoryError(describe_failure(video.error).message, video.flags);
  if (video.error) std::rethrow_exception(video.error);
  if (strict && !video.result.suspicious.empty()) {
    throw SuspiciousError(run::suspicion_text(video.result.suspicious, video.result.output));
  }
  return video.result;
}

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
    return run_rows(rows, options, callbacks, sink ? &*sink : nullptr, has_started);
  } catch (...) {
    if (!has_started && sink) batch::tell_failed_start(*sink, std::current_exception());
    throw;
  }
}

}  // namespace opensora
