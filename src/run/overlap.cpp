#include "run/overlap.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <tuple>

#include "core/meta_device.h"
#include "core/units.h"
#include "opensora/error.h"
#include "run/checkpoints.h"
#include "run/stage_work.h"

namespace opensora::run {
namespace {

// Jobs of one size take the same.
int64_t most_decoding_bytes(std::span<const Job> jobs, const models::SetOptions& options) {
  std::map<std::tuple<int64_t, int64_t, int64_t>, const Job*> sizes;
  for (const Job& job : jobs) {
    if (!job.request.image_only) sizes.try_emplace({job.size.width, job.size.height, job.latent_shape.frames}, &job);
  }
  int64_t most = 0;
  for (const auto& [size, job] : sizes) most = std::max(most, decoding_bytes(*job, options));
  return most;
}

bool fits_beside(std::span<const Job> jobs, int64_t decoding, const models::SetOptions& options) {
  const std::optional<int64_t> room =
      options.room ? options.room() : models::room_on(options.device, options.max_memory);
  if (!room) return true;
  const models::ModelSet models(models::choice_of(jobs.front().request), options);
  const int64_t sampling = models.running_bytes(Component::kModel);
  if (sampling + decoding <= *room) return true;
  spdlog::info("videos are decoded when others are not sampled: the two take {} and {}, and {} of the device are left",
               format_bytes(sampling), format_bytes(decoding), format_bytes(*room));
  return false;
}

}  // namespace

Overlap settle_overlap(std::span<const Job> jobs, const std::string& wanted, const models::SetOptions& options) {
  if (wanted != "on" && wanted != "off" && wanted != "auto") {
    throw UsageError("`overlap`: expected on, off or auto, found \"" + wanted + "\"");
  }
  // A preview needs the decoder while it samples; two threads must not share it.
  const bool has_previews =
      std::any_of(jobs.begin(), jobs.end(), [](const Job& job) { return job.request.preview_every > 0; });
  if (wanted == "off" || jobs.size() < 2 || has_previews) return {};
  if (options.device.is_cpu()) return {.is_on = wanted == "on"};
  const bool samples =
      std::any_of(jobs.begin(), jobs.end(), [](const Job& job) { return !job.has_latent && !job.request.image_only; });
  if (!samples) return {};  // nor need the transformer be there
  const Overlap overlap{.is_on = true, .decoding_bytes = most_decoding_bytes(jobs, options)};
  return wanted == "on" || fits_beside(jobs, overlap.decoding_bytes, options) ? overlap : Overlap{};
}

int64_t decoding_bytes(const Job& job, const models::SetOptions& options) {
  const c10::InferenceMode inference;
  MetaDevice meta(options.device);
  models::SetOptions without_data = options;
  without_data.source = models::Source::kHeaders;
  models::ModelSet models(models::choice_of(job.request), without_data);
  const auto decoder = models.video_autoencoder(autoencoder::Half::kDecoder, job.request.config.ae);
  const sampling::LatentShape& s = job.latent_shape;
  const at::Tensor latent =
      at::empty({1, s.channels, s.frames, s.height, s.width}, at::TensorOptions(at::kFloat).device(at::kMeta));
  const StageClock clock(at::kMeta, {});
  std::deque<at::Tensor> waiting;  // to be written: two parts of the video at most
  decode_frames(*decoder, latent, job.request.config.sampling.num_frames, clock, [&](const at::Tensor& frames) {
    waiting.push_back(frames);
    if (waiting.size() > 2) waiting.pop_front();
  });
  return meta.peak_bytes();
}

}  // namespace opensora::run
