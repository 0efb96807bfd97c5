#include "cli/standard_output.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>

namespace opensora::cli {
namespace {

constexpr size_t kEnough = 64 * 1024;  // bytes to write at once

// Writes all; returns 0 or errno.
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
    // The lowest number that is free is this one. Output that is only open for reading cannot be written to.
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

}  // namespace opensora::cli
