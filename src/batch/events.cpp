#include "batch/events.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "opensora/error.h"
#include "opensora/process.h"
#include "request/parameter.h"

namespace opensora::batch {
namespace {

using nlohmann::ordered_json;

// The time in UTC, as in ISO 8601, to the millisecond.
std::string now() {
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
  const std::time_t seconds = milliseconds / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                     utc.tm_hour, utc.tm_min, utc.tm_sec, milliseconds % 1000);
}

std::string line_of(std::string_view event, const ordered_json& fields) {
  ordered_json line = {{"schema_version", kSchemaVersion}, {"event", event}, {"time", now()}};
  line.update(fields);
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

int parse_descriptor(const std::string& target) {
  const std::string number = target.substr(3);
  int descriptor = -1;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), descriptor);
  const bool is_number = error == std::errc() && end == number.data() + number.size() && descriptor >= 0;
  if (!is_number || ::fcntl(descriptor, F_GETFD) < 0) {
    throw UsageError("`events` " + target + ": expected fd:N with N an open descriptor (such as fd:3 with 3>events)");
  }
  return descriptor;
}

constexpr int kPollMilliseconds = 100;

// A FIFO is opened once somebody reads it.
int open_target(const std::string& target) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK;
  int file = -1;
  while ((file = ::open(target.c_str(), kFlags, 0666)) < 0) {
    const bool waits = errno == EINTR || (errno == ENXIO && std::filesystem::is_fifo(target));
    if (!waits) {
      throw OutputError("`events` " + target + ": cannot open: " + std::generic_category().message(errno));
    }
    ::poll(nullptr, 0, kPollMilliseconds);
    throw_if_stopped();
  }
  ::fcntl(file, F_SETFL, ::fcntl(file, F_GETFL) & ~O_NONBLOCK);
  return file;
}

// Waits as long as nobody reads, but not once the run is to stop. Returns false then.
bool wait_for_reader(int file) {
  pollfd events{file, POLLOUT, 0};
  while (::poll(&events, 1, kPollMilliseconds) <= 0) {
    if (stop_signal() != 0) return false;
  }
  return true;
}

}  // namespace

EventSink::EventSink(const std::string& target) : target_(target) {
  if (target == "-" || target == "fd:1") {  // in one stream with what else is printed there
    file_ = STDOUT_FILENO;
    prints_ = true;
    add_fault_descriptor(file_);
    return;
  }
  if (target.starts_with("fd:")) {
    file_ = parse_descriptor(target);
    add_fault_descriptor(file_);
    return;
  }
  file_ = open_target(target);
  owned_ = true;
  add_fault_descriptor(file_);
}

EventSink::~EventSink() {
  remove_fault_descriptor(file_);
  if (owned_) ::close(file_);
}

void EventSink::write(std::string_view line) {
  if (broken_) return;
  std::string text(line);
  text += '\n';
  if (prints_) {
    std::cout << text << std::flush;  // what does not arrive is told at the end, as with all that is printed
    return;
  }
  for (size_t done = 0; done < text.size();) {
    constexpr size_t kPipe = PIPE_BUF;  // what a pipe takes that is ready
    const bool is_read = wait_for_reader(file_);
    const ssize_t written = is_read ? ::write(file_, text.data() + done, std::min(kPipe, text.size() - done)) : -1;
    if (is_read && written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const std::string reason = is_read ? std::generic_category().message(errno) : "nobody reads them";
      spdlog::warn("`events` {}: {}; no more events are written", target_, reason);
      broken_ = true;
      return;
    }
    done += static_cast<size_t>(written);
  }
}

void Events::record(std::string_view event, const ordered_json& fields) const {
  const std::string line = line_of(event, fields);
  if (journal_ != nullptr) journal_->append(line);  // first: what a script has heard of is on disk
  if (sink_ != nullptr) sink_->write(line);
}

void Events::tell(std::string_view event, const ordered_json& fields) const {
  if (sink_ != nullptr) sink_->write(line_of(event, fields));
}

nlohmann::ordered_json stage_seconds(const std::vector<std::pair<std::string, double>>& seconds) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  const auto milliseconds = [](double value) { return std::round(value * 1000) / 1000; };
  double total = 0;
  for (const auto& [stage, value] : seconds) {
    object[stage] = milliseconds(value);
    total += value;
  }
  object["total"] = milliseconds(total);
  return object;
}

ordered_json run_fields(const BatchResult& result, int exit_code) {
  return {{"videos", result.videos.size()},
          {"done", result.count(BatchState::kDone)},
          {"skipped", result.count(BatchState::kSkipped)},
          {"failed", result.count(BatchState::kFailed)},
          {"not_run", result.count(BatchState::kNotRun)},
          {"seconds", result.seconds},
          {"exit_code", exit_code}};
}

ordered_json run_fields(const BatchResult& result, const Failure& failure) {
  ordered_json fields = run_fields(result, failure.code);
  fields["error"] = request::with_flags(failure.message);
  return fields;
}

void tell_failed_start(EventSink& sink, const std::exception_ptr& error) {
  Events(nullptr, &sink).tell("run_finished", run_fields({}, describe_failure(error)));
}

void tell_failed_start(const std::string& target, const std::exception_ptr& error) noexcept {
  if (target.empty()) return;
  try {
    EventSink sink(target);
    tell_failed_start(sink, error);
  } catch (const std::exception& unwritten) {
    spdlog::warn(unwritten.what());
  }
}

}  // namespace opensora::batch
