// Turns what happens in a run into events, lines of the journal and calls for the program.
#pragma once

#include <chrono>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "batch/events.h"
#include "batch/task.h"
#include "opensora/batch.h"
#include "opensora/plan.h"
#include "pipeline/runner.h"

namespace opensora::batch {

class BatchObserver final : public pipeline::RunObserver {
 public:
  // `videos` are those that run, `tasks` and `reports` theirs by the same index; all must outlive this.
  BatchObserver(std::span<const pipeline::Video> videos, std::span<const Task* const> tasks,
                std::span<BatchVideo* const> reports, const Events& events, const BatchCallbacks& callbacks)
      : videos_(videos), tasks_(tasks), reports_(reports), events_(events), callbacks_(callbacks) {}

  void progress(const pipeline::Video* video, const Progress& progress) override;
  void model_loaded(std::string_view model, double seconds) override;
  void started(const pipeline::Video& video) override;
  void expected(const pipeline::Video& video, double seconds, pipeline::ExpectedBy basis) override;
  void picture_made(const pipeline::Video& video) override;
  void sampled(const pipeline::Video& video) override;
  void done(const pipeline::Video& video) override;
  void failed(const pipeline::Video& video) override;

 private:
  using Clock = std::chrono::steady_clock;
  size_t index(const pipeline::Video& video) const { return static_cast<size_t>(&video - videos_.data()); }
  nlohmann::ordered_json identity(const pipeline::Video& video) const;
  void tell_progress(const pipeline::Video& video, const Progress& progress);
  std::vector<std::string> tell_out_of_memory(const pipeline::Video& video, nlohmann::ordered_json fields) const;

  std::span<const pipeline::Video> videos_;
  std::span<const Task* const> tasks_;
  std::span<BatchVideo* const> reports_;
  const Events& events_;
  const BatchCallbacks& callbacks_;
  std::map<std::pair<const pipeline::Video*, std::string>, Clock::time_point> stages_;  // that are running
  const BaseMemory base_ = base_memory();                                               // before models are loaded
};

// The fields that say which video a line is about: row, sample, key, output, seed.
nlohmann::ordered_json identity_of(const Task& task);

}  // namespace opensora::batch
