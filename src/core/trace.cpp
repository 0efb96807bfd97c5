#include "core/trace.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/output_file.h"
#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora {
namespace {

using Clock = std::chrono::steady_clock;

struct Event {
  std::string name;
  bool is_operator;
  int64_t begin, end;  // nanoseconds since the trace began
  int64_t thread;
};

constexpr int64_t kShortestOperator = 10'000;  // nanoseconds; shorter ones are left out

struct Begin final : at::ObserverContext {
  int64_t time = 0;
};

nlohmann::json to_json(const Event& event) {
  constexpr double kMicrosecond = 1000;
  return {{"name", event.name},
          {"cat", event.is_operator ? "operator" : "span"},
          {"ph", "X"},
          {"ts", static_cast<double>(event.begin) / kMicrosecond},
          {"dur", static_cast<double>(event.end - event.begin) / kMicrosecond},
          {"pid", getpid()},
          {"tid", event.thread}};
}

// A trace may be replaced, and nothing else: neither a file of the user's nor what this run has written.
const std::filesystem::path& checked(const std::filesystem::path& path) {
  constexpr std::string_view kStart = "{\"traceEvents\"";
  std::error_code unreadable;
  if (!std::filesystem::is_regular_file(path, unreadable) || std::filesystem::is_empty(path, unreadable)) return path;
  std::string start(kStart.size(), '\0');
  std::ifstream(path, std::ios::binary).read(start.data(), static_cast<std::streamsize>(start.size()));
  if (start == kStart) return path;
  throw OutputError(path.string() + ": exists and is not a trace, which `trace` would replace; give it another file");
}

}  // namespace

TraceSpan::TraceSpan(const char* name, int64_t index) {
  auto callbacks = at::getStepCallbacksUnlessEmpty(at::RecordScope::USER_SCOPE);
  if (!callbacks) return;
  name_ = name;
  if (index >= 0) name_.append(" ").append(std::to_string(index));
  guard_.emplace(std::move(*callbacks));
  guard_->before(name_);
}

struct Trace::State {
  explicit State(const std::filesystem::path& path) : file(checked(path), /*overwrite=*/true) {}

  static std::unique_ptr<at::ObserverContext> note_begin(const at::RecordFunction&);
  static void note_end(const at::RecordFunction& function, at::ObserverContext* context);

  int64_t now() const { return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count(); }

  static inline State* recording = nullptr;  // where LibTorch's callbacks record, which are plain functions

  Clock::time_point start = Clock::now();
  std::mutex mutex;
  std::vector<Event> events;
  OutputFile file;
  at::CallbackHandle callback = 0;  // 0: not recording
};

std::unique_ptr<at::ObserverContext> Trace::State::note_begin(const at::RecordFunction&) {
  auto begin = std::make_unique<Begin>();
  begin->time = recording->now();
  return begin;
}

void Trace::State::note_end(const at::RecordFunction& function, at::ObserverContext* context) {
  const int64_t begin = static_cast<Begin*>(context)->time, end = recording->now();
  const bool is_operator = function.scope() == at::RecordScope::FUNCTION;
  if (is_operator && end - begin < kShortestOperator) return;
  const std::lock_guard lock(recording->mutex);
  recording->events.push_back({function.name(), is_operator, begin, end, syscall(SYS_gettid)});
}

Trace::Trace(const std::filesystem::path& file) : state_(std::make_unique<State>(file)) {
  State::recording = state_.get();
  state_->callback = at::addGlobalCallback(at::RecordFunctionCallback(State::note_begin, State::note_end)
                                               .scopes({at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE}));
}

Trace::~Trace() {
  if (state_->callback != 0) at::removeCallback(state_->callback);
}

void Trace::finish() {
  at::removeCallback(std::exchange(state_->callback, 0));
  std::ostringstream out;
  out << "{\"traceEvents\": [";
  const char* separator = "\n";
  for (const Event& event : state_->events) {
    out << std::exchange(separator, ",\n")
        << to_json(event).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  out << "\n]}\n";
  checked(state_->file.path());  // once more: the run may have written a file of that name
  write_content(state_->file.staged(), out.view());
  state_->file.commit();
}

}  // namespace opensora
