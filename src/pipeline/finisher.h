// The second half of each video, on a thread of its own or afterwards.
#pragma once

#include <ATen/ATen.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "pipeline/video.h"

namespace opensora::pipeline {

// Calls `finish` for each video that is submitted, in order: on its thread while the caller goes on, or within
// finish_all(). On a GPU the thread works on a stream of its own.
class Finisher {
 public:
  Finisher(bool threaded, at::Device device, std::function<void(Video&)> finish);
  ~Finisher();  // what is not finished by then is dropped: cancelled() is true meanwhile

  Finisher(const Finisher&) = delete;
  Finisher& operator=(const Finisher&) = delete;

  // Waits while `kWaiting` videos are waiting. Rethrows what `finish` has thrown on the thread.
  void submit(Video& video);
  // Returns when all that were submitted are finished. Rethrows likewise.
  void finish_all();

  // Returns when nothing that was submitted is left to the thread. Rethrows likewise.
  void wait_until_idle();

  // Rethrows what `finish` has thrown on the thread, if it has.
  void check();
  // For `finish`: whether to stop half-way.
  bool cancelled() const { return cancelled_; }

 private:
  static constexpr size_t kWaiting = 2;
  void work();
  void finish_submitted();
  void rethrow();  // with mutex_ held

  at::Device device_;
  std::function<void(Video&)> finish_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Video*> queue_;
  bool closed_ = false, working_ = false;
  std::atomic<bool> cancelled_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // not joinable: not threaded
};

}  // namespace opensora::pipeline
