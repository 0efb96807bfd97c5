// The handler of SIGSEGV: the host has touched what it may not touch just now.
#include <fmt/format.h>
#include <omp.h>
#include <signal.h>
#include <unistd.h>

#include <mutex>
#include <string>

#include "support/simulated_device/memory.h"
#include "support/simulated_device/state.h"

namespace opensora::test::simulated {
namespace {

struct sigaction former_handler {};

void say(const std::string& line) {
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;  // the process ends anyway
}

// A copy may still be using pinned memory. What a worker of OpenMP's team may know, its master may know too, which
// cannot be asked: for it, what any thread of the host has waited for is done.
void check_pinned(Block& block) {
  const bool writes = block.host == Access::kRead;  // reading would have raised no signal
  const bool is_worker = omp_get_thread_num() > 0;
  if (const Use* use = block.uses.unordered(is_worker ? state().hosts : host_clock(), writes)) {
    found_race("the host", writes ? "writes pinned" : "touches pinned", *use, /*may_throw=*/false);
  }
  protect(block, Access::kAll);
}

// Raised by the instruction that touches memory and by nothing else, so that what it interrupts holds no lock that is
// needed here, other than the device's own, which a thread may take twice.
void on_segmentation_fault(int signal, siginfo_t* info, void* context) {
  {
    const std::lock_guard lock(state().mutex);
    Block* const block = find_block(info->si_addr);
    if (block != nullptr && block->is_pinned) return check_pinned(*block);
    if (block != nullptr) {
      say(fmt::format("simulated device: the host touches the device's memory, {} bytes into a block of {}{}\n",
                      static_cast<const std::byte*>(info->si_addr) - block->begin, block->bytes,
                      block->is_used ? "" : " that was freed"));
    }
  }
  if ((former_handler.sa_flags & SA_SIGINFO) != 0) return former_handler.sa_sigaction(signal, info, context);
  if (former_handler.sa_handler != SIG_DFL && former_handler.sa_handler != SIG_IGN) {
    return former_handler.sa_handler(signal);
  }
  sigaction(SIGSEGV, &former_handler, nullptr);  // the instruction is tried again, and ends the process
}

}  // namespace

void watch_host() {
  struct sigaction present {};
  sigaction(SIGSEGV, nullptr, &present);
  if ((present.sa_flags & SA_SIGINFO) != 0 && present.sa_sigaction == &on_segmentation_fault) return;
  former_handler = present;
  struct sigaction action {};
  action.sa_sigaction = &on_segmentation_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
}

}  // namespace opensora::test::simulated
