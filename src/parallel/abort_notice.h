// What ends the work of all ranks: who learns of it, and how.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

namespace opensora {

// Shared by all communicators of a process, or of the threads that play ranks in one. The first reason stays. All
// functions may be called from any thread.
class AbortNotice {
 public:
  AbortNotice() = default;  // nobody outside of this process is told
  // Other processes are told by way of the store, and are heard of within half a second. A copy of the store is made,
  // as calls of one wait for each other.
  explicit AbortNotice(c10d::Store& store);
  ~AbortNotice();
  AbortNotice(const AbortNotice&) = delete;
  AbortNotice& operator=(const AbortNotice&) = delete;

  void raise(const std::string& reason);
  // The same where the error that this rank has met may only be the consequence of what another one knows better: asks
  // the store before. Always throws RankError, with the reason that stays.
  [[noreturn]] void raise_and_throw(const std::string& reason);

  bool is_raised() const { return is_raised_; }
  void check() const;  // throws RankError with the reason

  // `act` is called once, as soon as there is a reason, by the thread that learns of it; at once where there is one. It
  // must neither throw nor call this object.
  int64_t listen(std::function<void()> act);
  void forget(int64_t listener);  // returns when it is not being called

 private:
  void set(const std::string& reason);
  void look();  // into the store
  void watch();

  std::atomic<bool> is_raised_ = false;
  mutable std::mutex reason_mutex_;
  std::string reason_;

  std::mutex listeners_mutex_;
  std::map<int64_t, std::function<void()>> listeners_;
  int64_t next_listener_ = 0;

  std::mutex store_mutex_;
  c10::intrusive_ptr<c10d::Store> store_;  // null: none, or it could not be reached any more

  std::mutex stop_mutex_;
  std::condition_variable stop_;
  bool is_stopped_ = false;
  std::thread watcher_;
};

}  // namespace opensora
