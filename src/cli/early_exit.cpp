#include "cli/early_exit.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "opensora/error.h"

namespace opensora::cli {
namespace {

bool g_is_over = false;

void tell_early_exit() {
  if (g_is_over) return;
  rlimit limit{};
  const bool is_limited = ::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  const char* text =
      is_limited ? "opensora: error: out of memory: a library gave up (its words are above); raise the limit of "
                   "the address space (ulimit -v)\n"
                 : "opensora: error: a library ended the program (its words are above)\n";
  // Nothing can be done about a standard error that is closed.
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) {
  }
  ::_exit(static_cast<int>(is_limited ? ExitCode::kOutOfMemory : ExitCode::kInternal));
}

}  // namespace

void watch_for_early_exit() { std::atexit(tell_early_exit); }

void program_is_over() { g_is_over = true; }

}  // namespace opensora::cli
