#include "opensora/process.h"

#include <atomic>

#include "opensora/error.h"

namespace opensora {
namespace {

std::atomic<int> g_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);  // a signal handler writes it

}  // namespace

void request_stop(int signal) noexcept {
  int none = 0;
  g_signal.compare_exchange_strong(none, signal);
}

int stop_signal() noexcept { return g_signal; }

void throw_if_stopped() {
  if (const int signal = g_signal; signal != 0) throw InterruptedError(signal);
}

}  // namespace opensora
