// Waiting for other threads without becoming deaf.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace opensora {

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
