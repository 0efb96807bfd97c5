// What happens in a run as lines of JSON, for scripts and for the journal. README.md, "Events", has the fields.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "batch/journal.h"

namespace opensora::batch {

constexpr int kSchemaVersion = 1;

// Where --events goes: "fd:N", an open descriptor, or a file, which is emptied (a FIFO is opened as it is).
// A reader that has gone away is no reason to stop a run: it gets a warning, once.
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

// The same line for both: {"schema_version":1,"event":"video_done","time":"2026-01-31T12:00:00.000Z",…}.
class Events {
 public:
  // Either may be nullptr; both must outlive this.
  Events(Journal* journal, EventSink* sink) : journal_(journal), sink_(sink) {}

  // To both. Throws OutputError if the journal cannot be written.
  void record(std::string_view event, const nlohmann::ordered_json& fields) const;
  // To --events alone: what a later run need not know.
  void tell(std::string_view event, const nlohmann::ordered_json& fields) const;
  bool has_listener() const { return sink_ != nullptr; }

 private:
  Journal* journal_;
  EventSink* sink_;
};

}  // namespace opensora::batch
