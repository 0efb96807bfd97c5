#include "core/signal_stack.h"

#include <signal.h>

#include <memory>

namespace opensora {
namespace {

constexpr size_t kBytes = 64 * 1024;  // a frame with all registers of AVX-512 and AMX takes 11 KiB

class SignalStack {
 public:
  SignalStack() : memory_(new char[kBytes]) { set({.ss_sp = memory_.get(), .ss_flags = 0, .ss_size = kBytes}); }
  ~SignalStack() { set({.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0}); }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

 private:
  static void set(const stack_t& stack) { ::sigaltstack(&stack, nullptr); }

  std::unique_ptr<char[]> memory_;
};

}  // namespace

void use_signal_stack() { static thread_local const SignalStack stack; }

}  // namespace opensora
