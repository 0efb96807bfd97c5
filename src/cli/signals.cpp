#include "cli/signals.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

#include "opensora/stop.h"

namespace opensora::cli {
namespace {

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
  // The limit on CPU time is told again each second until the hard one.
  const bool is_repetition = g_stopping != 0 && (signal == SIGXCPU || seconds_since_first() < kOneEvent);
  if (is_repetition || (signal == SIGPIPE && !is_sent(*info))) return;
  if (g_stopping != 0) return end_as_by_default(signal);
  clock_gettime(CLOCK_MONOTONIC, &g_since);
  g_stopping = 1;
  request_stop(signal);
}

// Of signals that also tell of a fault: only those that were sent are a wish.
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
