// Running many jobs: every model is loaded once for all of them, and one that fails does not stop the others.
#pragma once

#include <span>
#include <string_view>
#include <utility>

#include "opensora/batch.h"
#include "run/checkpoints.h"
#include "run/job.h"

namespace opensora::run {

// What happens in a run. With overlapping stages the calls come from two threads, but never two at a time.
// What progress() throws stops the run; so does what the others throw. The class itself hands on progress alone.
class RunObserver {
 public:
  explicit RunObserver(ProgressCallback progress = {}) : progress_(std::move(progress)) {}
  virtual ~RunObserver() = default;

  // `job` is nullptr in the stage "text", which is one for many jobs.
  virtual void progress(const Job* /*job*/, const Progress& progress) {
    if (progress_) progress_(progress);
  }
  virtual void model_loaded(std::string_view /*model*/, double /*seconds*/) {}
  virtual void started(const Job& /*job*/) {}  // its sampling begins, or its decoding if that is all
  // Its sampling takes so many more seconds. `basis` is what that was computed from: "trial", the machine's kernels in
  // a moment's trial before the first step; "first_step", what that step took.
  virtual void expected(const Job& /*job*/, double /*seconds*/, std::string_view /*basis*/) {}
  virtual void picture_made(const Job& /*job*/) {}  // job.picture_file is on disk
  virtual void sampled(const Job& /*job*/) {}       // job.latent_file is on disk
  virtual void done(const Job& /*job*/) {}          // the output is on disk; the latent is removed after this
  virtual void failed(const Job& /*job*/) {}        // job.error says why

 private:
  ProgressCallback progress_;
};

// Runs the jobs, in order; each is done or has an error in the end, unless the run is stopped before. All have the
// models, the device and the dtype of the first. Their latents are on disk before they are decoded, and stay there if
// decoding fails or the run is stopped. Of the options count `overlap`, `keep_models`, `keep_latents`, `fail_fast` and
// `timeout`.
// Throws what the observer throws (InterruptedError), and UsageError for an unknown `overlap`.
void run_jobs(std::span<Job> jobs, const BatchOptions& options, RunObserver& observer, Tokenizers tokenizers = {});

}  // namespace opensora::run
