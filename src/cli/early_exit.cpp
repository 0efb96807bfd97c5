#include "cli/early_exit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

#include "core/machine.h"
#include "opensora/error.h"

namespace opensora::cli {
namespace {

void say(const char* text) {
  // Nothing can be done about a standard error that is closed.
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) {
  }
}

[[noreturn]] void end_out_of_memory(const char* text) {
  say(text);
  ::_exit(static_cast<int>(ExitCode::kOutOfMemory));
}

void tell_early_exit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    end_out_of_memory(
        "opensora: error: out of memory: a library gave up (its words are above); raise the limit of the address space "
        "(ulimit -v)\n");
  }
  say("opensora: error: a library ended the program (its words are above)\n");
  ::_exit(static_cast<int>(ExitCode::kInternal));
}

[[noreturn]] void tell_uncaught_exception() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    end_out_of_memory("opensora: error: out of memory\n");
  } catch (const std::exception& error) {
    say("opensora: error: internal error: ");
    say(error.what());
    say("\n");
  } catch (...) {
    say("opensora: error: internal error: an exception of no known kind\n");
  }
  ::_exit(static_cast<int>(ExitCode::kInternal));
}

// Calls only what a handler may.
void tell_crash(int signal) {
  if (address_space_was_full()) {
    end_out_of_memory(
        "opensora: error: out of memory: a library crashed where it got none; raise the limit of the address space "
        "(ulimit -v)\n");
  }
  ::signal(signal, SIG_DFL);  // the fault comes again when the handler returns
}

}  // namespace

void watch_for_uncaught_exceptions(int /*argc*/, char** /*argv*/, char** /*environment*/) {
  std::set_terminate(tell_uncaught_exception);
}

void watch_for_early_exit() {
  std::atexit(tell_early_exit);
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  struct sigaction action {};
  action.sa_handler = tell_crash;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
}

}  // namespace opensora::cli
