#include "parallel/abort_notice.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <exception>
#include <utility>

#include "core/text.h"
#include "opensora/error.h"

namespace opensora {
namespace {

constexpr const char* kAbortKey = "opensora/abort";
constexpr std::chrono::milliseconds kWatchPeriod{250};

}  // namespace

AbortNotice::AbortNotice(c10d::Store& store) : store_(store.clone()) {
  watcher_ = std::thread([this] { watch(); });
}

AbortNotice::~AbortNotice() {
  {
    const std::lock_guard lock(stop_mutex_);
    is_stopped_ = true;
  }
  stop_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

void AbortNotice::set(const std::string& reason) {
  {
    const std::lock_guard lock(reason_mutex_);
    if (is_raised_) return;
    reason_ = reason;
    is_raised_ = true;
  }
  const std::lock_guard lock(listeners_mutex_);
  for (const auto& [id, act] : listeners_) act();
  listeners_.clear();
}

void AbortNotice::look() {
  std::string reason;
  {
    const std::lock_guard lock(store_mutex_);
    if (!store_) return;
    try {
      if (!store_->check({kAbortKey})) return;
      reason = store_->get_to_str(kAbortKey);
    } catch (const std::exception& error) {  // who kept it has ended; whoever waits for a rank learns of that otherwise
      spdlog::debug("the ranks' store: {}", first_line(error.what()));
      store_.reset();
      return;
    }
  }
  set(reason);
}

void AbortNotice::watch() {
  std::unique_lock lock(stop_mutex_);
  while (!is_stopped_ && !is_raised_) {
    lock.unlock();
    look();
    lock.lock();
    stop_.wait_for(lock, kWatchPeriod, [this] { return is_stopped_; });
  }
}

void AbortNotice::raise(const std::string& reason) {
  look();
  if (is_raised_) return;
  {
    const std::lock_guard lock(store_mutex_);
    try {
      if (store_) store_->set(kAbortKey, reason);
    } catch (const std::exception& error) {
      spdlog::debug("the ranks' store: {}", first_line(error.what()));
      store_.reset();
    }
  }
  set(reason);
}

void AbortNotice::raise_and_throw(const std::string& reason) {
  raise(reason);
  check();
  throw RankError(reason);  // not reached: there is a reason now
}

void AbortNotice::check() const {
  if (!is_raised_) return;
  const std::lock_guard lock(reason_mutex_);
  throw RankError(reason_);
}

int64_t AbortNotice::listen(std::function<void()> act) {
  const std::lock_guard lock(listeners_mutex_);
  if (is_raised_) {
    act();
  } else {
    listeners_.emplace(next_listener_, std::move(act));
  }
  return next_listener_++;
}

void AbortNotice::forget(int64_t listener) {
  const std::lock_guard lock(listeners_mutex_);
  listeners_.erase(listener);
}

}  // namespace opensora
