#include "run/runner.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/cuda_plugin.h"
#include "core/device.h"
#include "core/memory_budget.h"
#include "core/units.h"
#include "opensora/error.h"
#include "run/checkpoints.h"
#include "run/finisher.h"
#include "run/forecast.h"
#include "run/overlap.h"
#include "run/remains.h"
#include "run/suspicious.h"
#include "run/video_stages.h"

namespace opensora::run {
namespace {

using autoencoder::Half;

// Bounds the memory that embeddings take, 8 MB a text with T5-XXL in float32. The text encoders are loaded again for
// the next videos.
constexpr size_t kVideosPerTextStage = 128;
// Without overlap: how many are sampled before the transformer makes room for the decoder.
constexpr size_t kVideosPerDecoding = 8;

// The options that suffice for the largest of the videos.
models::SetOptions set_options(std::span<const Job> jobs) {
  models::SetOptions options = set_options(jobs.front());
  for (const Job& job : jobs) {
    const models::SetOptions its = set_options(job);
    options.video_tokens = std::max(options.video_tokens, its.video_tokens);
    options.picture_tokens = std::max(options.picture_tokens, its.picture_tokens);
  }
  return options;
}

models::SetOptions beside(models::SetOptions options, const Overlap& overlap) {
  options.beside_bytes = overlap.decoding_bytes;
  return options;
}

class Runner {
 public:
  Runner(std::span<Job> jobs, const BatchOptions& options, RunObserver& observer, Tokenizers tokenizers);
  void run();

 private:
  void run_group(std::span<Job> jobs);
  void encode_references(std::span<Job> jobs);
  void encode_texts(std::span<Job> jobs);
  void make_pictures(std::span<Job> jobs);
  size_t sample_and_finish(std::span<Job> jobs);
  void sample(Job& job);
  void save_latent(Job& job) const;
  void finish(Job& job);
  void start(Job& job);
  void complete(Job& job);
  void retry_postponed();
  void expect(Job& job);
  void expect_after_first_step(Job& job);
  std::string for_all_videos() const;

  template <typename Work>
  void attempt(Job& job, Work&& work);
  void fail(Job& job);
  template <typename Call>
  void tell(Call&& call);
  void report(Job& job, const Progress& progress);
  void look(const Job& job);

  std::span<Job> jobs_;
  const BatchOptions& options_;
  RunObserver& observer_;
  std::mutex observer_mutex_;
  Overlap overlap_;
  models::ModelSet models_;
  bool keeps_models_;
  std::optional<MemoryBudget> budget_;
  Finisher* finisher_ = nullptr;  // while sampling
  std::vector<Job*> postponed_;   // memory ran out while the transformer was there too
  std::atomic<bool> transformer_present_ = false;
  std::atomic<int64_t> waiting_ = 0;  // videos that are sampled but not written yet
  std::optional<Rates> rates_;        // of the CPU, once they have been tried
  bool said_expected_ = false;        // the log tells of the first video alone
};

Runner::Runner(std::span<Job> jobs, const BatchOptions& options, RunObserver& observer, Tokenizers tokenizers)
    : jobs_(jobs),
      options_(options),
      observer_(observer),
      overlap_(settle_overlap(jobs, options.overlap, set_options(jobs))),
      models_(
          models::choice_of(jobs.front().request), beside(set_options(jobs), overlap_),
          [this](std::string_view model, double seconds) { tell([&] { observer_.model_loaded(model, seconds); }); }),
      keeps_models_(options.keep_models || models_.options().offload == models::Offload::kNone) {
  models_.hold_tokenizers(std::move(tokenizers));
  const int64_t limit = jobs.front().request.max_memory;
  if (limit > 0) budget_.emplace(jobs.front().device, limit);
  for (Job& job : jobs_) {
    job.clock.emplace(
        job.device, [this, &job](const Progress& progress) { report(job, progress); }, job.label,
        [this, &job] { look(job); });
    if (overlap_.is_on) job.clock->share_device();
  }
}

void Runner::run() {
  settle_attention(jobs_);
  for (size_t begin = 0; begin < jobs_.size(); begin += kVideosPerTextStage) {
    run_group(jobs_.subspan(begin, std::min(kVideosPerTextStage, jobs_.size() - begin)));
  }
}

void Runner::run_group(std::span<Job> jobs) {
  encode_references(jobs);
  encode_texts(jobs);
  models_.hold_tokenizers({});  // those of encoders that had nothing to do
  make_pictures(jobs);
  const size_t step = overlap_.is_on ? jobs.size() : kVideosPerDecoding;
  for (size_t begin = 0; begin < jobs.size();) {
    begin += sample_and_finish(jobs.subspan(begin, std::min(step, jobs.size() - begin)));
  }
}

// Only those that were given: one that cannot be read is found before any weight is loaded.
void Runner::encode_references(std::span<Job> jobs) {
  for (Job& job : jobs) {
    if (!job.has_latent) attempt(job, [&] { encode_given_references(job, models_); });
  }
  if (!keeps_models_) models_.release(Component::kAe, Half::kEncoder);
}

void Runner::encode_texts(std::span<Job> jobs) {
  std::vector<Job*> wanting;
  for (Job& job : jobs) {
    if (!job.has_latent && !job.error) wanting.push_back(&job);
  }
  if (wanting.empty()) return;
  StageClock clock(wanting.front()->device,
                   [this](const Progress& progress) { tell([&] { observer_.progress(nullptr, progress); }); });
  try {
    clock.run("text", [&] { encode_video_texts(wanting, models_); });
  } catch (const InterruptedError&) {
    throw;
  } catch (...) {
    for (Job* job : wanting) attempt(*job, [] { throw; });
    return;
  }
  for (Job* job : wanting) job->clock->add("text", clock.elapsed() / static_cast<double>(wanting.size()));
}

void Runner::make_pictures(std::span<Job> jobs) {
  for (Job& job : jobs) {
    if (!job.makes_picture || job.has_latent) continue;
    attempt(job, [&] {
      if (job.has_picture) return;
      start(job);
      make_first_picture(job, models_);
      tell([&] { observer_.picture_made(job); });
      if (job.request.image_only) complete(job);
    });
  }
  if (!keeps_models_) {
    models_.release(Component::kImgFlux);
    models_.release(Component::kImgFluxAe);
  }
  for (Job& job : jobs) {
    if (!job.makes_picture || job.has_latent || job.request.image_only) continue;
    attempt(job, [&] { encode_first_picture(job, models_); });
  }
  if (!keeps_models_) models_.release(Component::kAe, Half::kEncoder);
}

// Returns how many of the jobs it has dealt with: where the disk fills up, those that wait to be written make room
// first.
size_t Runner::sample_and_finish(std::span<Job> jobs) {
  Finisher finisher(overlap_.is_on, models_.device(), [this](Job& job) { finish(job); });
  finisher_ = &finisher;
  size_t count = 0;
  for (Job& job : jobs) {
    if (waiting_ > 0 && !job.has_latent && lack_of_space(job, waiting_)) break;
    ++count;
    if (job.done) continue;
    attempt(job, [&] {
      if (!job.makes_picture || job.has_picture) start(job);
      if (!job.has_latent) sample(job);
    });
    if (job.error) continue;
    ++waiting_;
    finisher.submit(job);
  }
  if (!keeps_models_) {
    models_.release(Component::kModel);
    models_.release(Component::kTinyAe);
  }
  transformer_present_ = false;
  finisher.finish_all();
  finisher_ = nullptr;
  retry_postponed();
  if (!keeps_models_ && !overlap_.is_on) models_.release(Component::kAe, Half::kDecoder);
  return count;
}

void Runner::sample(Job& job) {
  if (const auto lack = lack_of_space(job, waiting_)) throw OutputError(*lack);
  transformer_present_ = true;
  expect(job);
  sampling::SamplerState state;
  try {
    job.latent = sample_latent(job, models_, state);
  } catch (const OutOfMemoryError& error) {
    if (!overlap_.is_on) throw;
    spdlog::warn("{}; goes on from step {} when no other video is being decoded and the decoder is gone", error.what(),
                 state.step + 1);
    finisher_->wait_until_idle();
    models_.release(Component::kAe, Half::kDecoder);
    job.latent = sample_latent(job, models_, state);
  }
  save_latent(job);
  tell([&] { observer_.sampled(job); });
  if (!overlap_.is_on && jobs_.size() > 1) job.latent.reset();  // several wait: they are read again
}

void Runner::save_latent(Job& job) const {
  std::map<std::string, std::string> metadata = job.latent_metadata;
  if (!options_.keep_latents) metadata[kLatentUnfinished] = "yes";
  job.locks.push_back(std::make_shared<FileLock>(write_latent(job.latent_file, job.latent, metadata)));
  job.has_latent = true;
  job.latent_is_marked = !options_.keep_latents;
}

// Tells before the first step how long sampling will take. On a GPU that step itself tells soon enough.
void Runner::expect(Job& job) {
  if (!job.device.is_cpu()) return;
  const Config& config = job.request.config;
  try {
    if (!rates_) {
      rates_ = measure_rates(config, job.image_tokens() + config.t5.max_length, job.dtype, /*with_convolutions=*/false);
    }
  } catch (const std::exception& error) {  // there is no room for a trial, but perhaps for the run
    return spdlog::debug("no trial of the CPU's kernels: {}", error.what());
  }
  const FlopCount flops = sampling_flops(job);
  const double seconds = rates_->seconds(flops);
  job.result.expected_seconds = seconds;
  if (!said_expected_) {
    spdlog::info("{}sampling: {} forwards, {:.3g} TFLOP: about {}, until {}{}", job.label, sampling_forwards(job),
                 flops.total() / 1e12, format_duration(seconds), local_time_in(seconds), for_all_videos());
  }
  tell([&] { observer_.expected(job, seconds, "trial"); });
}

// "; all 12 videos about 3 h"
std::string Runner::for_all_videos() const {
  if (jobs_.size() == 1) return {};
  double seconds = 0;
  int64_t count = 0;
  for (const Job& job : jobs_) {
    if (job.has_latent || job.error || job.request.image_only) continue;
    seconds += rates_->seconds(sampling_flops(job));
    ++count;
  }
  return fmt::format("; that of all {} videos about {}", count, format_duration(seconds));
}

// Each forward of the other steps takes as long.
void Runner::expect_after_first_step(Job& job) {
  const auto all = static_cast<double>(sampling_forwards(job));
  const auto rest = static_cast<double>(sampling_forwards(job, 1));
  const double step = job.clock->elapsed_in_stage(), seconds = step / (all - rest) * rest;
  if (!job.result.expected_seconds) job.result.expected_seconds = step + seconds;
  if (!said_expected_) {
    spdlog::info("{}the first of {} steps took {}: about {} of sampling left, until {}", job.label,
                 job.schedule.num_steps, format_duration(step), format_duration(seconds), local_time_in(seconds));
  }
  said_expected_ = true;
  tell([&] { observer_.expected(job, seconds, "first_step"); });
}

void Runner::finish(Job& job) {
  attempt(job, [&] {
    try {
      decode_and_write(job, models_);
    } catch (const OutOfMemoryError& error) {
      if (!transformer_present_) throw;
      spdlog::warn("{}; again when the transformer is gone", error.what());
      models_.release(Component::kAe, Half::kDecoder);
      const std::lock_guard lock(observer_mutex_);
      ++waiting_;  // it still waits, though it is taken off below
      postponed_.push_back(&job);
      return;
    }
    complete(job);
  });
  job.latent.reset();
  --waiting_;
}

void Runner::retry_postponed() {
  for (Job* job : std::exchange(postponed_, {})) finish(*job);
}

void Runner::start(Job& job) {
  begin(job);
  tell([&] { observer_.started(job); });
}

void Runner::complete(Job& job) {
  job.done = true;
  job.result.seconds = job.clock->seconds();
  job.result.peak_resident_bytes = peak_resident_bytes();
  job.result.peak_device_bytes = peak_device_bytes(job.device);
  if (!job.result.suspicious.empty()) spdlog::warn(suspicion_text(job.result.suspicious, job.output));
  const bool keeps_latent = options_.keep_latents && !job.request.image_only;
  if (keeps_latent) job.result.latent = job.latent_file;
  tell([&] { observer_.done(job); });
  settle_remains(job, options_.keep_latents);
  job.locks.clear();
}

// Runs `work` for a video that has not failed yet; an error is noted down and told.
template <typename Work>
void Runner::attempt(Job& job, Work&& work) {
  if (job.error) return;
  try {
    std::forward<Work>(work)();
  } catch (const InterruptedError&) {
    throw;
  } catch (const Cancelled&) {
    throw;
  } catch (...) {
    fail(job);
  }
}

// Call it in a catch block.
void Runner::fail(Job& job) {
  job.error = std::current_exception();
  job.done = false;
  job.text = job.negative_text = job.picture_text = {};
  job.references.clear();
  job.latent.reset();
  tell([&] { observer_.failed(job); });
  if (options_.fail_fast) throw Cancelled{};
}

template <typename Call>
void Runner::tell(Call&& call) {
  const std::lock_guard lock(observer_mutex_);
  std::forward<Call>(call)();
}

void Runner::report(Job& job, const Progress& progress) {
  look(job);
  tell([&] { observer_.progress(&job, progress); });
  if (progress.stage == "denoise" && progress.done == 1 && progress.total > 1) expect_after_first_step(job);
}

void Runner::look(const Job& job) {
  if (finisher_ != nullptr) {
    if (finisher_->cancelled()) throw Cancelled{};
    finisher_->check();
  }
  if (options_.timeout > 0 && job.clock->elapsed() > options_.timeout) {
    throw TimeoutError(fmt::format("timed out: more than {:g} seconds (`timeout`)", options_.timeout));
  }
}

}  // namespace

void run_jobs(std::span<Job> jobs, const BatchOptions& options, RunObserver& observer, Tokenizers tokenizers) {
  if (jobs.empty()) return;
  if (jobs.front().device.is_cuda()) {
    const std::string state = cuda_plugin_state();
    spdlog::info("CUDA plug-in: {}{}", state, state == "loaded" ? "" : " (slower; see README)");
  }
  try {
    Runner(jobs, options, observer, std::move(tokenizers)).run();
  } catch (const Cancelled&) {  // `fail_fast`: the jobs behind the failed one are not run
  }
}

}  // namespace opensora::run
