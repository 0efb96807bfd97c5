// What happens in a run as lines of JSON, for scripts and for the journal. README.md, "Events", has the fields.
#pragma once

#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "batch/journal.h"
#include "core/failure.h"
#include "opensora/batch.h"

namespace opensora::batch {

constexpr int kSchemaVersion = 1;

// The target of --events: "fd:N", an open descriptor, or a file, which is emptied (unless it is a FIFO). A reader that
// has gone away does not stop the run; a single warning says so.
class EventSink {
 public:
  // Throws UsageError for a descriptor that is not open, OutputError for a file that cannot be.
  explicit EventSink(const std::string& target);
  ~EventSink();
  EventSink(const EventSink&) = delete;
  EventSink& operator=(const EventSink&) = delete;

  void write(std::string_view line);

 private:
  std::string target_;
  int file_ = -1;
  bool owned_ = false, broken_ = false, prints_ = false;
};

// Writes each event as one line, the same for journal and --events:
// {"schema_version":1,"event":"video_done","time":"2026-01-31T12:00:00.000Z",…}.
class Events {
 public:
  // Either may be nullptr; both must outlive this.
  Events(Journal* journal, EventSink* sink) : journal_(journal), sink_(sink) {}

  // Writes to both. Throws OutputError if the journal cannot be written.
  void record(std::string_view event, const nlohmann::ordered_json& fields) const;
  // Writes to --events alone, for what a later run need not know.
  void tell(std::string_view event, const nlohmann::ordered_json& fields) const;
  bool has_listener() const { return sink_ != nullptr; }

 private:
  Journal* journal_;
  EventSink* sink_;
};

// Seconds by stage as results and events give them: in order, rounded to milliseconds, with their "total".
nlohmann::ordered_json stage_seconds(const std::vector<std::pair<std::string, double>>& seconds);

// The fields of the event run_finished. A failure that stopped the whole run gives the exit code, and an "error".
nlohmann::ordered_json run_fields(const BatchResult& result, int exit_code);
nlohmann::ordered_json run_fields(const BatchResult& result, const Failure& failure);

// For a run that ends before its first event. No journal is written: nothing has happened that a later run could need.
void tell_failed_start(EventSink& sink, const std::exception_ptr& error);
// The same for an error before run_batch(), with the target that --events names (empty: nothing is done). Throws
// nothing: where the events cannot be written either, `error` is what counts.
void tell_failed_start(const std::string& target, const std::exception_ptr& error) noexcept;

}  // namespace opensora::batch
