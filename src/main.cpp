#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include <cstdio>
#include <iostream>

#include "cli/app.h"
#include "cli/process.h"
#include "core/local_file.h"
#include "core/temporary.h"
#include "opensora/process.h"

// These run before the libraries initialise themselves.
__attribute__((section(".preinit_array"), used)) void (*const before_all[])(int, char**, char**) = {
    opensora::cli::watch_for_uncaught_exceptions, opensora::leave_removed_folder,
    opensora::cli::start_patiently_if_busy};

int main(int argc, char** argv) {
  opensora::install_fault_handler();
  opensora::cli::ignore_file_size_signal();
  const int code = opensora::cli::run(argc, argv);
  // The process ends here and now. LibTorch would take a tenth of a second to unregister its operators, and after a
  // stop a thread may still be within an encoder, from under which nothing must be taken. Its file goes before.
  if (opensora::stop_signal() != 0) opensora::remove_own_temporaries();
  std::cout.flush();
  std::fflush(nullptr);
#ifdef __SANITIZE_ADDRESS__
  __lsan_do_leak_check();
#endif
  _exit(code);
}
