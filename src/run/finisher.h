// Decoding and writing, the second half of each job, on a thread of its own or after the sampling.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "core/device.h"
#include "run/job.h"

namespace opensora::run {

// Calls `finish` for each job that is submitted, in order: on a thread while the caller goes on, or else within
// finish_all(). On a GPU the thread works on a stream of its own.
class Finisher {
 public:
  Finisher(bool threaded, at::Device device, std::function<void(Job&)> finish);
  ~Finisher();  // drops what is not finished; cancelled() is true meanwhile

  Finisher(const Finisher&) = delete;
  Finisher& operator=(const Finisher&) = delete;

  // Blocks while `kWaiting` jobs are queued. Rethrows what `finish` has thrown on the thread.
  void submit(Job& job);
  // Returns when all submitted jobs are finished. Rethrows likewise.
  void finish_all();

  // Returns when the thread has nothing left to do. Rethrows likewise.
  void wait_until_idle();

  // Rethrows what `finish` has thrown on the thread, if it has.
  void check();
  // `finish` asks this to know whether to stop half-way.
  bool cancelled() const { return cancelled_; }

 private:
  struct Submitted {
    Job* job = nullptr;
    DeviceEvent sampled;  // in the stream of whoever submitted it
  };

  static constexpr size_t kWaiting = 2;
  void work();
  void finish_submitted();
  void rethrow();  // with mutex_ held

  at::Device device_;
  std::function<void(Job&)> finish_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Submitted> queue_;
  bool closed_ = false, working_ = false;
  std::atomic<bool> cancelled_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // not joinable without threading
};

}  // namespace opensora::run
