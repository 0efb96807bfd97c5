// Turns what happens in a run into events, journal lines and callbacks.
#pragma once

#include <chrono>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "batch/events.h"
#include "opensora/batch.h"
#include "opensora/plan.h"
#include "run/runner.h"

namespace opensora::batch {

class BatchObserver final : public run::RunObserver {
 public:
  // `reports` has the report of each of `jobs`, at the same index. Both must outlive this object.
  BatchObserver(std::span<const run::Job> jobs, std::span<BatchVideo* const> reports, const Events& events,
                const BatchCallbacks& callbacks)
      : jobs_(jobs), reports_(reports), events_(events), callbacks_(callbacks) {}

  void progress(const run::Job* job, const Progress& progress) override;
  void model_loaded(std::string_view model, double seconds) override;
  void started(const run::Job& job) override;
  void expected(const run::Job& job, double seconds, std::string_view basis) override;
  void picture_made(const run::Job& job) override;
  void sampled(const run::Job& job) override;
  void done(const run::Job& job) override;
  void failed(const run::Job& job) override;

 private:
  using Clock = std::chrono::steady_clock;
  size_t index(const run::Job& job) const { return static_cast<size_t>(&job - jobs_.data()); }
  void tell_progress(const run::Job& job, const Progress& progress);
  std::vector<std::string> tell_out_of_memory(const run::Job& job, nlohmann::ordered_json fields) const;

  std::span<const run::Job> jobs_;
  std::span<BatchVideo* const> reports_;
  const Events& events_;
  const BatchCallbacks& callbacks_;
  std::map<std::pair<const run::Job*, std::string>, Clock::time_point> stages_;  // that are running
  const BaseMemory base_ = base_memory();                                        // before models are loaded
};

// The fields that say which video a line is about: row, sample, key, output, seed.
nlohmann::ordered_json identity_of(const run::Job& job);

}  // namespace opensora::batch
