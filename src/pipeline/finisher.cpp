#include "pipeline/finisher.h"

#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>
#include <utility>

namespace opensora::pipeline {

Finisher::Finisher(bool threaded, at::Device device, std::function<void(Video&)> finish)
    : device_(device), finish_(std::move(finish)) {
  if (threaded) thread_ = std::thread([this] { work(); });
}

Finisher::~Finisher() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    closed_ = true;
    queue_.clear();
  }
  changed_.notify_all();
  thread_.join();
}

void Finisher::submit(Video& video) {
  std::unique_lock lock(mutex_);
  if (thread_.joinable()) {
    changed_.wait(lock, [&] { return error_ || queue_.size() < kWaiting; });
    rethrow();
  }
  queue_.push_back(&video);
  changed_.notify_all();
}

void Finisher::finish_all() {
  if (!thread_.joinable()) {
    for (Video* video : queue_) finish_(*video);
    queue_.clear();
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  thread_.join();
  const std::lock_guard lock(mutex_);
  rethrow();
}

void Finisher::check() {
  const std::lock_guard lock(mutex_);
  rethrow();
}

void Finisher::rethrow() {
  if (error_) std::rethrow_exception(error_);
}

void Finisher::work() {
  const c10::InferenceMode inference;
  std::optional<c10::StreamGuard> stream;
  if (!device_.is_cpu()) stream.emplace(c10::impl::VirtualGuardImpl(device_.type()).getStreamFromGlobalPool(device_));
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closed_ || !queue_.empty(); });
    if (queue_.empty() || error_) return;
    Video* video = queue_.front();
    queue_.pop_front();
    changed_.notify_all();
    lock.unlock();
    try {
      finish_(*video);
      lock.lock();
    } catch (...) {
      lock.lock();
      error_ = std::current_exception();
      changed_.notify_all();
      return;
    }
  }
}

}  // namespace opensora::pipeline
