#include "opensora/generate.h"

#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include <system_error>

#include "opensora/error.h"
#include "pipeline/identity.h"
#include "pipeline/models.h"
#include "pipeline/runner.h"
#include "pipeline/video.h"
#include "pipeline/video_stages.h"

namespace opensora {
namespace {

using pipeline::Video;

// One video alone: its progress is all that anyone wants to know.
class ProgressObserver final : public pipeline::RunObserver {
 public:
  explicit ProgressObserver(const ProgressCallback& progress) : progress_(progress) {}
  void progress(const Video* /*video*/, const Progress& progress) override {
    if (progress_) progress_(progress);
  }
  void model_loaded(std::string_view /*model*/, double /*seconds*/) override {}
  void started(const Video& /*video*/) override {}
  void picture_made(const Video& /*video*/) override {}
  void sampled(const Video& /*video*/) override {}
  void done(const Video& /*video*/) override {}
  void failed(const Video& /*video*/) override {}

 private:
  const ProgressCallback& progress_;
};

void remove_latent(const Video& video) {
  std::error_code ignored;
  if (video.has_latent) std::filesystem::remove(video.plan.latent, ignored);
}

}  // namespace

GenerateResult generate(const GenerateRequest& request, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  Video video = pipeline::plan_video(request);
  pipeline::settle_output(video);
  pipeline::check_model_files(request);
  const Video* alone = &video;
  pipeline::check_video_texts({&alone, 1});
  pipeline::settle_metadata(video, pipeline::identify_checkpoints(request));
  pipeline::prepare_machine(request);
  ProgressObserver observer(progress);
  try {
    pipeline::run_videos({&video, 1}, {.keep_models = request.keep_models, .keep_latents = request.keep_latents},
                         observer);
  } catch (const InterruptedError&) {
    remove_latent(video);
    throw;
  }
  if (video.error) {
    if (video.has_latent) {
      spdlog::warn("the latent is kept in {}; \"opensora decode\" makes the video of it", video.plan.latent.string());
    }
    std::rethrow_exception(video.error);
  }
  return video.result;
}

}  // namespace opensora
