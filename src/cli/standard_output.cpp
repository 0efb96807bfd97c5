#include "cli/standard_output.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <iostream>
#include <utility>

#include "batch/events.h"
#include "request/parameter.h"

namespace opensora::cli {
namespace {

constexpr size_t kEnough = 64 * 1024;  // bytes to write at once

// Writes the whole text; returns 0 or errno.
int write_all(const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (written > 0) {
      done += static_cast<size_t>(written);
    } else if (written < 0 && errno == EAGAIN) {  // a pipe that somebody made non-blocking
      pollfd wait{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
      ::poll(&wait, 1, -1);
    } else if (written < 0 && errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace

void occupy_closed_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    // open() takes the lowest free number, which is this one. Standard output is opened for reading, so that what is
    // written to it fails.
    if (::open("/dev/null", descriptor == STDERR_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
  }
}

StandardOutput::StandardOutput() : former_(std::cout.rdbuf(this)) {}

StandardOutput::~StandardOutput() {
  finish();
  std::cout.rdbuf(former_);
}

int StandardOutput::finish() {
  sync();
  return error_;
}

StandardOutput::int_type StandardOutput::overflow(int_type character) {
  if (!traits_type::eq_int_type(character, traits_type::eof())) waiting_ += traits_type::to_char_type(character);
  return waiting_.size() >= kEnough && sync() != 0 ? traits_type::eof() : traits_type::not_eof(character);
}

std::streamsize StandardOutput::xsputn(const char* text, std::streamsize count) {
  waiting_.append(text, static_cast<size_t>(count));
  return waiting_.size() >= kEnough && sync() != 0 ? 0 : count;
}

int StandardOutput::sync() {
  if (error_ == 0 && !waiting_.empty()) error_ = write_all(waiting_);
  waiting_.clear();
  return error_ == 0 ? 0 : -1;
}

nlohmann::ordered_json result_to_json(const GenerateResult& result) {
  return {{"output", result.output.string()},
          {"image", result.image.empty() ? nlohmann::json() : nlohmann::json(result.image.string())},
          {"seed", result.seed},
          {"prompt", result.effective_prompt},
          {"width", result.width},
          {"height", result.height},
          {"frames", result.frames},
          {"steps", result.steps},
          {"forwards", result.forwards},
          {"image_forwards", result.image_forwards},
          {"computed_steps", result.computed_steps.empty() ? nlohmann::json() : nlohmann::json(result.computed_steps)},
          {"device", result.device},
          {"dtype", result.dtype},
          {"attention", result.attention},
          {"cuda_graphs", request::with_flags(result.cuda_graphs)},
          {"expected_seconds", result.expected_seconds ? nlohmann::json(*result.expected_seconds) : nlohmann::json()},
          {"suspicious", result.suspicious},
          {"latent", result.latent.empty() ? nlohmann::json() : nlohmann::json(result.latent.string())},
          {"seconds", batch::stage_seconds(result.seconds)},
          {"peak_memory_bytes", result.peak_resident_bytes},
          {"peak_device_memory_bytes", result.peak_device_bytes}};
}

Failure in_flags(Failure failure, const std::vector<std::string>& others) {
  failure.message = request::with_flags(failure.message, others);
  failure.flags = request::with_flags(std::move(failure.flags), others);
  return failure;
}

nlohmann::ordered_json failure_json(const Failure& failure) {
  return {{"error", failure.message}, {"code", failure.code}, {"flags", failure.flags}};
}

void print_failed_report(nlohmann::ordered_json report, ExitCode code, const std::string& message) {
  report.update(
      failure_json(in_flags({.code = static_cast<int>(code), .message = message, .flags = {}, .detail = {}})));
  print_json(report);
  throw ToldError(code, message);
}

nlohmann::ordered_json finite_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

nlohmann::ordered_json finite_or_null(const std::vector<double>& values) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const double value : values) list.push_back(finite_or_null(value));
  return list;
}

void print_json(const nlohmann::ordered_json& json) {
  std::cout << json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
}

}  // namespace opensora::cli
