#include "core/working_folder.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <string>

namespace opensora {
namespace {

constexpr const char* kNowhere = "/proc/self/fdinfo";

}  // namespace

// The C library is not ready, nor is a sanitizer: nothing but system calls.
__attribute__((no_sanitize("address", "undefined"))) void leave_removed_folder(int /*argc*/, char** /*argv*/,
                                                                               char** /*environment*/) {
  static char path[4096];
  const long length = ::syscall(SYS_getcwd, path, sizeof path);
  const bool is_reachable = length > 0 && path[0] == '/';  // else "(unreachable)/…", or nothing
  [[maybe_unused]] const int result = is_reachable ? 0 : ::chdir(kNowhere);
}

// By its place: the program may have started itself once more (cli/patient_threads.h).
bool working_folder_is_removed() {
  char path[4096];
  const long length = ::syscall(SYS_getcwd, path, sizeof path);
  return length > 0 && "/proc/" + std::to_string(::getpid()) + "/fdinfo" == path;
}

}  // namespace opensora
