// The end of a run: the exit code, and the event that says it.
#pragma once

#include <chrono>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>

#include "batch/events.h"
#include "opensora/batch.h"

namespace opensora::batch {

// What the program exits with after the run: of a run of one video without a folder what that video came to, else
// BatchResult::exit_code().
int exit_code_of(const BatchResult& result, const BatchOptions& options);

// Tells once how a run ended, with its seconds since this object was made.
class RunEnd {
 public:
  // Both must outlive this object; `result` is what is there by the time of the call.
  RunEnd(const Events& events, BatchResult& result) : events_(events), result_(result) {}

  // Throws OutputError where the journal cannot be written; --events then has that error's code.
  void tell(int exit_code) const;
  // The run is stopped by `error`, which is more to the point than a journal that cannot be written either.
  void tell_error(const std::exception_ptr& error) const;

  static nlohmann::ordered_json fields_of(const BatchResult& result, int exit_code);

 private:
  void take_time() const;

  const Events& events_;
  BatchResult& result_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// For a run that ends before its first event. No journal is written: nothing has happened that a later run could need.
void tell_failed_start(EventSink& sink, const std::exception_ptr& error);
// The same with what --events says (empty: nothing is done), for an error before run_batch(). Throws nothing: where the
// events cannot be written either, `error` is what counts.
void tell_failed_start(const std::string& target, const std::exception_ptr& error) noexcept;

}  // namespace opensora::batch
