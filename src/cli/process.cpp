#include "cli/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <new>

#include "core/machine.h"
#include "opensora/error.h"
#include "opensora/process.h"

// Before main() the C library is not ready, nor is a sanitizer: nothing but system calls and plain loops.
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

void say(const char* text) {
  // Nothing can be done about a standard error that is closed.
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) {
  }
}

[[noreturn]] void end_out_of_memory(const char* text) {
  say(text);
  ::_exit(static_cast<int>(ExitCode::kOutOfMemory));
}

void tell_early_exit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    end_out_of_memory(
        "opensora: error: out of memory: a library gave up (its words are above); raise the limit of the address space "
        "(ulimit -v)\n");
  }
  say("opensora: error: a library ended the program (its words are above)\n");
  ::_exit(static_cast<int>(ExitCode::kInternal));
}

[[noreturn]] void tell_uncaught_exception() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    end_out_of_memory("opensora: error: out of memory\n");
  } catch (const std::exception& error) {
    say("opensora: error: internal error: ");
    say(error.what());
    say("\n");
  } catch (...) {
    say("opensora: error: internal error: an exception of no known kind\n");
  }
  ::_exit(static_cast<int>(ExitCode::kInternal));
}

// Calls only what a handler may.
void tell_crash(int signal) {
  if (address_space_was_full()) {
    end_out_of_memory(
        "opensora: error: out of memory: a library crashed where it got none; raise the limit of the address space "
        "(ulimit -v)\n");
  }
  ::signal(signal, SIG_DFL);  // the fault comes again when the handler returns
}

volatile sig_atomic_t g_stopping = 0;
timespec g_since{};  // of the first signal; written once, before g_stopping

double seconds_since_first() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec - g_since.tv_sec) + static_cast<double>(now.tv_nsec - g_since.tv_nsec) * 1e-9;
}

void end_as_by_default(int signal) {
  struct sigaction by_default {};
  by_default.sa_handler = SIG_DFL;
  sigaction(signal, &by_default, nullptr);
  raise(signal);  // taken when the handler returns
}

// Whether another process has sent it, and not this one's own fault, write or limit.
bool is_sent(const siginfo_t& info) { return info.si_code <= 0 && info.si_pid != getpid(); }

// Calls only what a handler may.
void stop(int signal, siginfo_t* info, void* /*context*/) {
  constexpr double kOneEvent = 0.2;
  // The soft limit on CPU time is signalled again each second until the hard one.
  const bool is_repetition = g_stopping != 0 && (signal == SIGXCPU || seconds_since_first() < kOneEvent);
  if (is_repetition || (signal == SIGPIPE && !is_sent(*info))) return;
  if (g_stopping != 0) return end_as_by_default(signal);
  clock_gettime(CLOCK_MONOTONIC, &g_since);
  g_stopping = 1;
  request_stop(signal);
}

// For signals that also tell of a fault: only where another process has sent them are they a wish to stop.
void stop_if_sent(int signal, siginfo_t* info, void* context) {
  if (is_sent(*info)) return stop(signal, info, context);
  end_as_by_default(signal);
}

void handle(int signal, void (*handler)(int, siginfo_t*, void*), bool even_if_ignored) {
  struct sigaction before {};
  sigaction(signal, nullptr, &before);
  const bool is_default = (before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_DFL;
  const bool is_ignored = (before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_IGN;
  if (!is_default && !(is_ignored && even_if_ignored)) return;  // a sanitizer's, or the user's will
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;  // what waits looks by itself
  sigfillset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

OPENSORA_BEFORE_ALL bool is_busy(const char* loadavg) {
  const bool is_idle = starts_with(loadavg, "0.0") || starts_with(loadavg, "0.1") || starts_with(loadavg, "0.2") ||
                       starts_with(loadavg, "0.3") || starts_with(loadavg, "0.4");
  const char* at = loadavg;
  for (int spaces = 0; *at != '\0' && spaces < 3; ++at) spaces += *at == ' ' ? 1 : 0;
  return *at != '\0' && !is_idle && !starts_with(at, "1/");
}

// Where anything is unusual, the program simply goes on as it was started.
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

void watch_for_uncaught_exceptions(int /*argc*/, char** /*argv*/, char** /*environment*/) {
  std::set_terminate(tell_uncaught_exception);
}

void watch_for_early_exit() {
  std::atexit(tell_early_exit);
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  struct sigaction action {};
  action.sa_handler = tell_crash;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
}

void ignore_file_size_signal() { ::signal(SIGXFSZ, SIG_IGN); }

void catch_signals() {
  for (const int signal : {SIGINT, SIGQUIT, SIGTERM}) handle(signal, stop, /*even_if_ignored=*/true);
  for (const int signal :
       {SIGHUP, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGXCPU, SIGPIPE, SIGIO, SIGPWR, SIGSTKFLT}) {
    handle(signal, stop, /*even_if_ignored=*/false);
  }
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) handle(signal, stop, /*even_if_ignored=*/false);
  for (const int signal : {SIGABRT, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) {
    handle(signal, stop_if_sent, /*even_if_ignored=*/false);
  }
}

}  // namespace opensora::cli
