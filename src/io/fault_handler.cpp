#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>

#include "io/mapping_registry.h"
#include "opensora/error.h"
#include "opensora/faults.h"

namespace opensora {
namespace {

constexpr int kNone = -1;

struct Descriptors {
  std::array<std::atomic<int>, 8> slots;
  Descriptors() {
    for (std::atomic<int>& slot : slots) slot = kNone;
  }
};

// Made by install_fault_handler() or the first descriptor, before a handler can look; never destroyed.
Descriptors& descriptors() {
  static auto* const all = new Descriptors;
  return *all;
}

void write_line(int fd, const char* text, uint64_t bytes) noexcept {
  // One write: a line in a file that others append to stays whole. There is nobody left to tell of a failure.
  [[maybe_unused]] const ssize_t written = ::write(fd, text, bytes);
}

// Calls only what a signal handler may.
void on_bus_error(int, siginfo_t* info, void*) {
  const bool is_fault = info->si_code > 0;  // and not sent by another process, which has no address
  const io::FaultLines lines = is_fault ? io::find_fault_lines(info->si_addr) : io::FaultLines{};
  if (lines.text == nullptr) {
    struct sigaction by_default {};
    by_default.sa_handler = SIG_DFL;
    ::sigaction(SIGBUS, &by_default, nullptr);
    ::raise(SIGBUS);  // taken when this handler returns
    return;
  }
  write_line(STDERR_FILENO, lines.text, lines.text_bytes);
  for (const std::atomic<int>& slot : descriptors().slots) {
    if (const int fd = slot; fd != kNone) write_line(fd, lines.json, lines.json_bytes);
  }
  ::_exit(static_cast<int>(ExitCode::kCheckpoint));
}

}  // namespace

void install_fault_handler() {
  descriptors();                  // made here, as a handler must not
  io::find_fault_lines(nullptr);  // likewise
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

void add_fault_descriptor(int fd) {
  for (std::atomic<int>& slot : descriptors().slots) {
    int free = kNone;
    if (slot.compare_exchange_strong(free, fd)) return;
  }
}

void remove_fault_descriptor(int fd) {
  for (std::atomic<int>& slot : descriptors().slots) {
    int found = fd;
    if (slot.compare_exchange_strong(found, kNone)) return;
  }
}

}  // namespace opensora
