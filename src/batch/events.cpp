#include "batch/events.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <ctime>
#include <iostream>
#include <system_error>

#include "opensora/error.h"
#include "opensora/faults.h"

namespace opensora::batch {
namespace {

using nlohmann::ordered_json;

// UTC, ISO 8601, milliseconds.
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
    throw UsageError("--events " + target + ": expected fd:N with N an open descriptor (such as fd:3 with 3>events)");
  }
  return descriptor;
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
  file_ = ::open(target.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) {
    throw OutputError("--events " + target + ": cannot open: " + std::generic_category().message(errno));
  }
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
    std::cout << text << std::flush;  // what does not arrive is told at the end, as of all that is printed
    return;
  }
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = ::write(file_, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      spdlog::warn("--events {}: {}; no more events are written", target_, std::generic_category().message(errno));
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

}  // namespace opensora::batch
