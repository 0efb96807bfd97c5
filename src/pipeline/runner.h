// Making many videos: every model is loaded once for all of them, and one that fails does not stop the others.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "pipeline/video.h"

namespace opensora::pipeline {

// What an expected time is reckoned from: the machine's kernels in a moment's trial, or the first step.
enum class ExpectedBy { kTrial, kFirstStep };

// What happens in a run. With overlapping stages the calls come from two threads, but never two at a time.
// What progress() throws stops the run; so does what the others throw.
class RunObserver {
 public:
  virtual ~RunObserver() = default;

  // `video` is nullptr in the stage "text", which is one for many videos.
  virtual void progress(const Video* video, const Progress& progress) = 0;
  virtual void model_loaded(std::string_view model, double seconds) = 0;
  virtual void started(const Video& video) = 0;  // its sampling begins, or its decoding if that is all
  // Of its sampling, so many seconds are left: said before the first step, if anything tells then, and after it.
  virtual void expected(const Video& video, double seconds, ExpectedBy basis) = 0;
  virtual void picture_made(const Video& video) = 0;  // plan.picture is on disk
  virtual void sampled(const Video& video) = 0;       // plan.latent is on disk
  virtual void done(const Video& video) = 0;          // the output is on disk; the latent is removed after this
  virtual void failed(const Video& video) = 0;        // video.error says why
};

enum class Overlap {
  kOff,   // a few videos are sampled, the transformer is released, and they are decoded
  kOn,    // a video is decoded and written while the next is sampled; both models are in memory
  kAuto,  // on where it pays and both fit
};

struct RunOptions {
  Overlap overlap = Overlap::kAuto;
  bool keep_models = false;   // release nothing before the end
  bool keep_latents = false;  // leave the latents' files beside the videos
  bool fail_fast = false;     // stop at the first failure
  double timeout = 0;         // seconds of one video's own stages; 0: none
};

// Makes the videos, in order; each is done or has an error in the end, unless the run is stopped before. All have the
// models, the device and the dtype of the first. Their latents are on disk before they are decoded, and stay there if
// decoding fails or the run is stopped.
// Returns false if fail_fast stopped the run. Throws what the observer throws (InterruptedError).
bool run_videos(std::span<Video> videos, const RunOptions& options, RunObserver& observer);

}  // namespace opensora::pipeline
