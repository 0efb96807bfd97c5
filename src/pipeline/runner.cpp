#include "pipeline/runner.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/duration.h"
#include "core/memory_budget.h"
#include "opensora/error.h"
#include "pipeline/expected_time.h"
#include "pipeline/finisher.h"
#include "pipeline/latent_file.h"
#include "pipeline/references.h"
#include "pipeline/remains.h"
#include "pipeline/run_models.h"
#include "pipeline/space.h"
#include "pipeline/suspicious.h"
#include "pipeline/video_stages.h"

namespace opensora::pipeline {
namespace {

using autoencoder::Half;

// Bounds what embeddings hold in memory: 8 MB a text of T5-XXL in float32. The text encoders are loaded again for the
// next so many videos.
constexpr size_t kVideosPerTextStage = 128;
// Without overlap: how many are sampled before the transformer makes room for the decoder.
constexpr size_t kVideosPerDecoding = 8;

struct FailedFast {};
struct Cancelled {};

// For the largest of the videos.
models::SetOptions set_options(std::span<const Video> videos) {
  models::SetOptions options = set_options(videos.front().request, videos.front().plan);
  for (const Video& video : videos) {
    const models::SetOptions its = set_options(video.request, video.plan);
    options.video_tokens = std::max(options.video_tokens, its.video_tokens);
    options.picture_tokens = std::max(options.picture_tokens, its.picture_tokens);
  }
  return options;
}

bool may_overlap(std::span<const Video> videos, const RunOptions& options) {
  // A preview needs the decoder while it samples; two threads must not share it.
  const bool has_previews =
      std::any_of(videos.begin(), videos.end(), [](const Video& video) { return video.request.preview_every > 0; });
  if (videos.size() == 1 || has_previews) return false;
  if (options.overlap == Overlap::kAuto) return !videos.front().plan.device.is_cpu();
  return options.overlap == Overlap::kOn;
}

class Runner {
 public:
  Runner(std::span<Video> videos, const RunOptions& options, RunObserver& observer);
  void run();

 private:
  void run_group(std::span<Video> videos);
  void encode_references(std::span<Video> videos);
  void encode_texts(std::span<Video> videos);
  void make_pictures(std::span<Video> videos);
  size_t sample_and_finish(std::span<Video> videos);
  void sample(Video& video);
  void save_latent(Video& video) const;
  void finish(Video& video);
  void start(Video& video);
  void complete(Video& video);
  void retry_postponed();
  void expect(Video& video);
  void expect_after_first_step(Video& video);
  std::string for_all_videos() const;

  template <typename Work>
  void attempt(Video& video, Work&& work);
  void fail(Video& video);
  template <typename Call>
  void tell(Call&& call);
  void report(Video& video, const Progress& progress);
  void look(const Video& video);

  std::span<Video> videos_;
  const RunOptions& options_;
  RunObserver& observer_;
  std::mutex observer_mutex_;
  models::ModelSet models_;
  bool overlap_, keeps_models_;
  std::optional<MemoryBudget> budget_;
  Finisher* finisher_ = nullptr;   // while sampling
  std::vector<Video*> postponed_;  // memory ran out while the transformer was there too
  std::atomic<bool> transformer_present_ = false;
  std::atomic<int64_t> waiting_ = 0;  // videos that are sampled but not written yet
  std::optional<Rates> rates_;        // of the CPU, once they have been tried
  bool said_expected_ = false;        // the log tells of the first video alone
};

Runner::Runner(std::span<Video> videos, const RunOptions& options, RunObserver& observer)
    : videos_(videos),
      options_(options),
      observer_(observer),
      models_(
          models::choice_of(videos.front().request), set_options(videos),
          [this](std::string_view model, double seconds) { tell([&] { observer_.model_loaded(model, seconds); }); }),
      overlap_(may_overlap(videos, options)),
      keeps_models_(options.keep_models || models_.options().offload == models::Offload::kNone) {
  const int64_t limit = videos.front().request.max_memory;
  if (limit > 0) budget_.emplace(videos.front().plan.device, limit);
  for (Video& video : videos_) {
    video.clock.emplace(
        video.plan.device, [this, &video](const Progress& progress) { report(video, progress); }, video.label,
        [this, &video] { look(video); });
  }
}

void Runner::run() {
  for (size_t begin = 0; begin < videos_.size(); begin += kVideosPerTextStage) {
    run_group(videos_.subspan(begin, std::min(kVideosPerTextStage, videos_.size() - begin)));
  }
}

void Runner::run_group(std::span<Video> videos) {
  encode_references(videos);
  encode_texts(videos);
  make_pictures(videos);
  const size_t step = overlap_ ? videos.size() : kVideosPerDecoding;
  for (size_t begin = 0; begin < videos.size();) {
    begin += sample_and_finish(videos.subspan(begin, std::min(step, videos.size() - begin)));
  }
}

// Given ones: a reference that cannot be read is found before any weight is loaded.
void Runner::encode_references(std::span<Video> videos) {
  for (Video& video : videos) {
    if (video.has_latent || video.request.references.empty()) continue;
    attempt(video, [&] {
      video.references = video.clock->run("encode", [&] {
        const std::vector<at::Tensor> frames = read_references(video.request, video.plan, *video.clock);
        const auto encoder = models_.video_autoencoder(Half::kEncoder, video.request.config.ae);
        return pipeline::encode_references(video.request, video.plan, *encoder, frames, *video.clock);
      });
    });
  }
  if (!keeps_models_) models_.release(Component::kAe, Half::kEncoder);
}

void Runner::encode_texts(std::span<Video> videos) {
  std::vector<Video*> wanting;
  for (Video& video : videos) {
    if (!video.has_latent && !video.error) wanting.push_back(&video);
  }
  if (wanting.empty()) return;
  StageClock clock(wanting.front()->plan.device,
                   [this](const Progress& progress) { tell([&] { observer_.progress(nullptr, progress); }); });
  try {
    clock.run("text", [&] { encode_video_texts(wanting, models_); });
  } catch (const InterruptedError&) {
    throw;
  } catch (...) {
    for (Video* video : wanting) attempt(*video, [] { throw; });
    return;
  }
  for (Video* video : wanting) video->clock->add("text", clock.elapsed() / static_cast<double>(wanting.size()));
}

void Runner::make_pictures(std::span<Video> videos) {
  for (Video& video : videos) {
    if (!video.plan.makes_picture || video.has_latent) continue;
    attempt(video, [&] {
      if (video.has_picture) return;
      start(video);
      make_first_picture(video, models_);
      tell([&] { observer_.picture_made(video); });
      if (video.request.image_only) complete(video);
    });
  }
  if (!keeps_models_) {
    models_.release(Component::kImgFlux);
    models_.release(Component::kImgFluxAe);
  }
  for (Video& video : videos) {
    if (!video.plan.makes_picture || video.has_latent || video.request.image_only) continue;
    attempt(video, [&] { encode_first_picture(video, models_); });
  }
  if (!keeps_models_) models_.release(Component::kAe, Half::kEncoder);
}

// Returns how many of the first are done with: where the disk fills up, those that wait to be written make room first.
size_t Runner::sample_and_finish(std::span<Video> videos) {
  Finisher finisher(overlap_, models_.device(), [this](Video& video) { finish(video); });
  finisher_ = &finisher;
  size_t count = 0;
  for (Video& video : videos) {
    if (waiting_ > 0 && !video.has_latent && lack_of_space(video, waiting_)) break;
    ++count;
    if (video.done) continue;
    attempt(video, [&] {
      if (!video.plan.makes_picture || video.has_picture) start(video);
      if (!video.has_latent) sample(video);
    });
    if (video.error) continue;
    ++waiting_;
    finisher.submit(video);
  }
  if (!keeps_models_) models_.release(Component::kModel);
  transformer_present_ = false;
  finisher.finish_all();
  finisher_ = nullptr;
  retry_postponed();
  if (!keeps_models_ && !overlap_) models_.release(Component::kAe, Half::kDecoder);
  return count;
}

void Runner::sample(Video& video) {
  if (const auto lack = lack_of_space(video, waiting_)) throw OutputError(*lack);
  transformer_present_ = true;
  expect(video);
  try {
    video.latent = sample_latent(video, models_);
  } catch (const OutOfMemoryError& error) {
    if (!overlap_) throw;
    spdlog::warn("{}; again when no other video is being decoded and the decoder is gone", error.what());
    finisher_->wait_until_idle();
    models_.release(Component::kAe, Half::kDecoder);
    video.latent = sample_latent(video, models_);
  }
  save_latent(video);
  tell([&] { observer_.sampled(video); });
  if (!overlap_ && videos_.size() > 1) video.latent.reset();  // several wait: they are read again
}

void Runner::save_latent(Video& video) const {
  LatentFile file{video.latent, video.latent_metadata};
  if (!options_.keep_latents) file.metadata[kLatentUnfinished] = "yes";
  video.locks.push_back(std::make_shared<FileLock>(write_latent(video.plan.latent, file)));
  video.has_latent = true;
  video.latent_is_marked = !options_.keep_latents;
}

// Before the first step. On a GPU that will tell soon enough.
void Runner::expect(Video& video) {
  const Plan& plan = video.plan;
  if (!plan.device.is_cpu()) return;
  const Config& config = video.request.config;
  try {
    if (!rates_)
      rates_ = measure_rates(config, plan.image_tokens() + config.t5.max_length, plan.dtype, Trial::kSampling);
  } catch (const std::exception& error) {  // there is no room for a trial, but perhaps for the run
    return spdlog::debug("no trial of the CPU's kernels: {}", error.what());
  }
  const FlopCount flops = sampling_flops(config, plan);
  const double seconds = rates_->seconds(flops);
  video.result.expected_seconds = seconds;
  if (!said_expected_) {
    spdlog::info("{}sampling: {} forwards, {:.3g} TFLOP: about {}, until {}{}", video.label,
                 sampling_forwards(config, plan), flops.total() / 1e12, format_duration(seconds),
                 local_time_in(seconds), for_all_videos());
  }
  tell([&] { observer_.expected(video, seconds, ExpectedBy::kTrial); });
}

// "; all 12 videos about 3 h"
std::string Runner::for_all_videos() const {
  if (videos_.size() == 1) return {};
  double seconds = 0;
  int64_t count = 0;
  for (const Video& video : videos_) {
    if (video.has_latent || video.error || video.request.image_only) continue;
    seconds += rates_->seconds(sampling_flops(video.request.config, video.plan));
    ++count;
  }
  return fmt::format("; that of all {} videos about {}", count, format_duration(seconds));
}

// The other steps' forwards take as long each.
void Runner::expect_after_first_step(Video& video) {
  const auto all = static_cast<double>(sampling_forwards(video.request.config, video.plan));
  const auto rest = static_cast<double>(sampling_forwards(video.request.config, video.plan, 1));
  const double step = video.clock->elapsed_in_stage(), seconds = step / (all - rest) * rest;
  if (!video.result.expected_seconds) video.result.expected_seconds = step + seconds;
  if (!said_expected_) {
    spdlog::info("{}the first of {} steps took {}: about {} of sampling left, until {}", video.label,
                 video.plan.schedule.num_steps, format_duration(step), format_duration(seconds),
                 local_time_in(seconds));
  }
  said_expected_ = true;
  tell([&] { observer_.expected(video, seconds, ExpectedBy::kFirstStep); });
}

void Runner::finish(Video& video) {
  attempt(video, [&] {
    try {
      decode_and_write(video, models_);
    } catch (const OutOfMemoryError& error) {
      if (!transformer_present_) throw;
      spdlog::warn("{}; again when the transformer is gone", error.what());
      models_.release(Component::kAe, Half::kDecoder);
      const std::lock_guard lock(observer_mutex_);
      ++waiting_;  // as it goes on
      postponed_.push_back(&video);
      return;
    }
    complete(video);
  });
  video.latent.reset();
  --waiting_;
}

void Runner::retry_postponed() {
  for (Video* video : std::exchange(postponed_, {})) finish(*video);
}

void Runner::start(Video& video) {
  begin_video(video);
  tell([&] { observer_.started(video); });
}

void Runner::complete(Video& video) {
  video.done = true;
  video.result.seconds = video.clock->seconds();
  video.result.peak_resident_bytes = peak_resident_bytes();
  video.result.peak_device_bytes = peak_device_bytes(video.plan.device);
  if (!video.result.suspicious.empty()) spdlog::warn(suspicion_text(video.result.suspicious, video.plan.output));
  const bool keeps_latent = options_.keep_latents && !video.request.image_only;
  if (keeps_latent) video.result.latent = video.plan.latent;
  tell([&] { observer_.done(video); });
  settle_remains(video, options_.keep_latents);
  video.locks.clear();
}

// Runs `work` for a video that has not failed yet; an error is noted down and told.
template <typename Work>
void Runner::attempt(Video& video, Work&& work) {
  if (video.error) return;
  try {
    std::forward<Work>(work)();
  } catch (const InterruptedError&) {
    throw;
  } catch (const Cancelled&) {
    throw;
  } catch (...) {
    fail(video);
  }
}

// In a catch block.
void Runner::fail(Video& video) {
  video.error = std::current_exception();
  video.done = false;
  video.prompt = video.negative = video.picture_prompt = {};
  video.references.clear();
  video.latent.reset();
  tell([&] { observer_.failed(video); });
  if (options_.fail_fast) throw FailedFast{};
}

template <typename Call>
void Runner::tell(Call&& call) {
  const std::lock_guard lock(observer_mutex_);
  std::forward<Call>(call)();
}

void Runner::report(Video& video, const Progress& progress) {
  look(video);
  tell([&] { observer_.progress(&video, progress); });
  if (progress.stage == "denoise" && progress.done == 1 && progress.total > 1) expect_after_first_step(video);
}

void Runner::look(const Video& video) {
  if (finisher_ != nullptr) {
    if (finisher_->cancelled()) throw Cancelled{};
    finisher_->check();
  }
  if (options_.timeout > 0 && video.clock->elapsed() > options_.timeout) {
    throw TimeoutError(fmt::format("timed out: more than {:g} seconds (--timeout)", options_.timeout));
  }
}

}  // namespace

bool run_videos(std::span<Video> videos, const RunOptions& options, RunObserver& observer) {
  if (videos.empty()) return true;
  try {
    Runner(videos, options, observer).run();
    return true;
  } catch (const FailedFast&) {
    return false;
  }
}

}  // namespace opensora::pipeline
