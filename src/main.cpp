#include <unistd.h>

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
  if (opensora::stop_signal() == 0) return code;
  // A thread may still be within an encoder: nothing is taken down under it, and nothing of its file stays.
  std::cout.flush();
  std::fflush(nullptr);
  opensora::remove_own_temporaries();
  _exit(code);
}
