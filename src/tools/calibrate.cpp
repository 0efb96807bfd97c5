// Exact runs up to their latents, and what is seen of their velocities.
#include "opensora/calibrate.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <utility>

#include "core/output_file.h"
#include "models/model_set.h"
#include "opensora/error.h"
#include "run/calibration.h"
#include "run/checkpoints.h"
#include "run/job.h"
#include "run/video_stages.h"
#include "sampling/step_cache.h"

namespace opensora::tools {
namespace {

using Changes = std::vector<sampling::ChangeCurve::Point>;

// A job that computes every step, and keeps the velocities of the last two guided ones.
run::Job exact_job(GenerateRequest request) {
  request.cache = "none";
  request.sampler = "euler";  // which evaluates each step once
  request.attention = "exact";
  request.speed = 1;
  request.preview_every = 0;
  request.config.use_t2i2v = request.image_only = false;
  run::Job job = run::make_job(request);
  for (int64_t step = 1; step <= job.schedule.num_steps; ++step) job.cache.steps.push_back(step);
  return job;
}

// The times at which the velocities are compared: those of the guided steps.
std::vector<float> times_of(const run::Job& job) {
  const sampling::StepSchedule schedule = run::step_schedule(job);
  std::vector<float> times;
  for (int64_t step = 0; step < schedule.steps(); ++step) {
    if (schedule.is_guided(step)) times.push_back(schedule.timesteps[step]);
  }
  return times;
}

std::vector<run::Job> exact_jobs(const CalibrateRequest& request) {
  if (request.runs.empty()) throw UsageError("calibrate: expected a run, found none");
  std::vector<run::Job> jobs;
  jobs.reserve(request.runs.size());
  for (const GenerateRequest& run : request.runs) jobs.push_back(exact_job(run));
  for (const run::Job& job : jobs) {
    if (times_of(job) == times_of(jobs.front())) continue;
    throw UsageError(
        "calibrate: expected runs of the same steps, size, length and guided steps, found others; their times differ");
  }
  return jobs;
}

// Runs a job to its latent. After each guided step its change is added to the sum.
Changes changes_of(run::Job& job, models::ModelSet& models, const ProgressCallback& progress) {
  Changes changes = {{1, 0}};
  sampling::SamplerState state;
  const auto look = [&](const Progress& now) {
    if (now.stage == "denoise" && state.cache.time < changes.back().time) {
      changes.push_back({state.cache.time, changes.back().change + sampling::last_change(state.cache)});
    }
    if (progress) progress(now);
  };
  job.clock.emplace(job.device, look);
  run::encode_given_references(job, models);
  run::sample_latent(job, models, state);
  return changes;
}

void add(Changes& sum, const Changes& changes) {
  if (sum.empty()) sum = Changes(changes.size());
  for (size_t i = 0; i < sum.size(); ++i) {
    sum[i].time = changes[i].time;
    sum[i].change += changes[i].change;
  }
}

void write_table(const CalibrateRequest& request, const nlohmann::ordered_json& table) {
  OutputFile file(request.output, request.overwrite);
  write_content(file.staged(), table.dump(1) + "\n");
  file.commit();
}

}  // namespace
}  // namespace opensora::tools

namespace opensora {

CalibrateResult calibrate(const CalibrateRequest& request, const ProgressCallback& progress) {
  const c10::InferenceMode inference;
  std::vector<run::Job> jobs = tools::exact_jobs(request);
  run::Job& first = jobs.front();
  check_output(request.output, request.overwrite);
  run::prepare_machine(first.request);
  run::settle_attention(jobs);
  run::check_model_files(first.request, !first.request.references.empty());
  models::ModelSet models(models::choice_of(first.request), run::set_options(first));
  std::vector<run::Job*> places;
  places.reserve(jobs.size());
  for (run::Job& job : jobs) places.push_back(&job);
  run::StageClock(first.device, progress).run("text", [&] { run::encode_video_texts(places, models); });

  CalibrateResult result{.output = request.output, .forwards = 0, .changes = {}};
  tools::Changes mean;
  for (run::Job& job : jobs) {
    tools::add(mean, tools::changes_of(job, models, progress));
    result.forwards += job.result.forwards;
  }
  for (auto& [time, change] : mean) {
    change /= static_cast<double>(jobs.size());
    result.changes.emplace_back(time, change);
  }
  tools::write_table(request, run::calibration_json(first, sampling::ChangeCurve(std::move(mean))));
  return result;
}

}  // namespace opensora
