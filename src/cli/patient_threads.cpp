#include "cli/patient_threads.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>

// The C library is not ready, nor is a sanitizer: nothing but system calls and plain loops.
#define OPENSORA_BEFORE_ALL __attribute__((no_sanitize("address", "undefined")))

namespace opensora::cli {
namespace {

constexpr const char* kNoSpins = "GOMP_SPINCOUNT=0";
constexpr size_t kMostVariables = 4096;

OPENSORA_BEFORE_ALL bool starts_with(const char* text, const char* start) {
  for (; *start != '\0'; ++text, ++start) {
    if (*text != *start) return false;
  }
  return true;
}

OPENSORA_BEFORE_ALL bool machine_is_busy() {
  char text[128];
  const int fd = ::open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t length = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  if (length <= 0) return false;
  text[length] = '\0';
  return is_busy(text);
}

}  // namespace

OPENSORA_BEFORE_ALL bool is_busy(const char* loadavg) {
  const bool is_idle = starts_with(loadavg, "0.0") || starts_with(loadavg, "0.1") || starts_with(loadavg, "0.2") ||
                       starts_with(loadavg, "0.3") || starts_with(loadavg, "0.4");
  const char* at = loadavg;
  for (int spaces = 0; *at != '\0' && spaces < 3; ++at) spaces += *at == ' ' ? 1 : 0;
  return *at != '\0' && !is_idle && !starts_with(at, "1/");
}

// Where anything is out of the ordinary, the program goes on as it was started.
OPENSORA_BEFORE_ALL void start_patiently_if_busy(int /*argc*/, char** argv, char** environment) {
  static const char* extended[kMostVariables + 2];
  size_t count = 0;
  for (; environment[count] != nullptr; ++count) {
    const char* entry = environment[count];
    if (starts_with(entry, "GOMP_SPINCOUNT=") || starts_with(entry, "OMP_WAIT_POLICY=")) return;
    if (count == kMostVariables) return;
    extended[count] = entry;
  }
  if (!machine_is_busy()) return;
  extended[count] = kNoSpins;
  static char program[4096];  // by its own path: through /proc/self/exe it would be called "exe"
  if (::readlink("/proc/self/exe", program, sizeof program - 1) <= 0) return;
  ::execve(program, argv, const_cast<char**>(extended));
}

}  // namespace opensora::cli
