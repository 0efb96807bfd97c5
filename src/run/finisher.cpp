#include "run/finisher.h"

#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>

#include <utility>

#include "core/device.h"
#include "core/threads.h"
#include "opensora/process.h"

namespace opensora::run {

Finisher::Finisher(bool threaded, at::Device device, std::function<void(Job&)> finish)
    : device_(device), finish_(std::move(finish)) {
  if (threaded) {
    thread_ = std::thread([this] {
      prepare_team();
      work();
    });
  }
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

void Finisher::submit(Job& job) {
  std::unique_lock lock(mutex_);
  if (thread_.joinable()) {
    wait_looking(
        changed_, lock, [&] { return error_ || queue_.size() < kWaiting; }, throw_if_stopped);
    rethrow();
  }
  queue_.push_back({&job, DeviceEvent(device_)});
  queue_.back().sampled.record_current();
  changed_.notify_all();
}

void Finisher::finish_all() {
  if (!thread_.joinable()) {
    for (const Submitted& submitted : queue_) finish_(*submitted.job);
    queue_.clear();
    return;
  }
  std::unique_lock lock(mutex_);
  closed_ = true;
  changed_.notify_all();
  wait_looking(
      changed_, lock, [&] { return error_ || (!working_ && queue_.empty()); }, throw_if_stopped);
  lock.unlock();
  thread_.join();
  rethrow();
}

void Finisher::check() {
  const std::lock_guard lock(mutex_);
  rethrow();
}

void Finisher::rethrow() {
  if (error_) std::rethrow_exception(error_);
}

void Finisher::wait_until_idle() {
  std::unique_lock lock(mutex_);
  const auto idle = [&] { return error_ || (!working_ && queue_.empty()); };
  if (thread_.joinable()) wait_looking(changed_, lock, idle, throw_if_stopped);
  rethrow();
}

void Finisher::work() {
  const c10::InferenceMode inference;
  try {
    const c10::OptionalStreamGuard own(second_stream(device_));
    finish_submitted();
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
  }
  changed_.notify_all();
}

void Finisher::finish_submitted() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) return;
    queue_.front().sampled.block_current();
    Job* job = queue_.front().job;
    queue_.pop_front();
    working_ = true;
    changed_.notify_all();
    lock.unlock();
    finish_(*job);
    lock.lock();
    working_ = false;
    changed_.notify_all();
  }
}

}  // namespace opensora::run
