#include "core/threads.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <signal.h>

#include <future>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "opensora/error.h"

namespace opensora {
namespace {

// A stack on which signal handlers run. Every thread that computes needs one: while oneDNN's products run, the stack
// register points into a buffer on the heap, and a handler's frame there would overwrite what lies before the buffer.
class SignalStack {
 public:
  SignalStack() : memory_(new char[kBytes]) { set({.ss_sp = memory_.get(), .ss_flags = 0, .ss_size = kBytes}); }
  ~SignalStack() { set({.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0}); }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

 private:
  static constexpr size_t kBytes = 64 * 1024;  // a frame with all registers of AVX-512 and AMX takes 11 KiB

  static void set(const stack_t& stack) { ::sigaltstack(&stack, nullptr); }

  std::unique_ptr<char[]> memory_;
};

// Gives the calling thread, for the rest of its life, a stack of its own for handlers installed with SA_ONSTACK.
void use_signal_stack() { static thread_local const SignalStack stack; }

// How many of `count` threads the system lets start at the same time.
int threads_that_start(int count) {
  std::promise<void> over;
  const std::shared_future<void> end = over.get_future().share();
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  try {
    while (static_cast<int>(threads.size()) < count) threads.emplace_back([end] { end.wait(); });
  } catch (const std::system_error&) {
  }
  over.set_value();
  for (std::thread& thread : threads) thread.join();
  return static_cast<int>(threads.size());
}

}  // namespace

void use_threads(int count) {
  const int threads = count > 0 ? count : at::get_num_threads();
  // Beside this thread there are OpenMP's. If a number is set there are as many of XNNPACK's, which set_num_threads()
  // starts, and for which it would wait forever.
  const int needed = (count > 0 ? 2 : 1) * (threads - 1);
  if (const int started = threads_that_start(needed); started < needed) {
    throw OutOfMemoryError(
        fmt::format("out of memory: the system lets {} threads start, and computing with {} takes {}; give fewer "
                    "`threads` or raise the limit (ulimit -u, ulimit -v)",
                    started + 1, threads, needed + 1));
  }
  if (count > 0) at::set_num_threads(count);
  prepare_team();
}

void prepare_team() {
  at::parallel_for(0, at::get_num_threads(), 1, [](int64_t /*begin*/, int64_t /*end*/) { use_signal_stack(); });
}

}  // namespace opensora
