#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include <cstdio>
#include <iostream>

#include "cli/app.h"
#include "cli/early_exit.h"
#include "cli/patient_threads.h"
#include "cli/signals.h"
#include "core/temporary.h"
#include "core/working_folder.h"
#include "opensora/faults.h"
#include "opensora/stop.h"

// Run before the libraries' own initialisation.
__attribute__((section(".preinit_array"), used)) void (*const before_all[])(int, char**, char**) = {
    opensora::cli::watch_for_uncaught_exceptions, opensora::leave_removed_folder,
    opensora::cli::start_patiently_if_busy};

int main(int argc, char** argv) {
  opensora::install_fault_handler();
  opensora::cli::ignore_file_size_signal();
  const int code = opensora::cli::run(argc, argv);
  // Ends here and now. LibTorch takes a tenth of a second to unregister its operators, and after a stop a thread may
  // still be within an encoder: nothing is taken down under it, and nothing of its file stays.
  if (opensora::stop_signal() != 0) opensora::remove_own_temporaries();
  std::cout.flush();
  std::fflush(nullptr);
#ifdef __SANITIZE_ADDRESS__
  __lsan_do_leak_check();
#endif
  _exit(code);
}
