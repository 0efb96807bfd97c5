// How many threads compute, and waiting for them without becoming deaf.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace opensora {

// Sets the number (0: LibTorch's choice) and starts them. OpenMP ends the whole program where a thread cannot be
// started, and XNNPACK waits for it forever: this looks first, and throws OutOfMemoryError.
void use_threads(int count);

// Starts the calling thread's own team of OpenMP threads, each with a stack of its own for signal handlers. Threads
// other than the main one call it before they compute.
void prepare_team();

// Waits for `ready` as condition_variable::wait() does. Ten times a second it calls `look`, without the lock; what
// that throws ends the wait, with the lock held again.
template <typename Ready, typename Look>
void wait_looking(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, Ready&& ready, Look&& look) {
  constexpr std::chrono::milliseconds kInterval(100);
  while (!changed.wait_for(lock, kInterval, ready)) {
    lock.unlock();
    try {
      look();
    } catch (...) {
      lock.lock();
      throw;
    }
    lock.lock();
  }
}

}  // namespace opensora
