#include "cli/app.h"
#include "cli/patient_threads.h"
#include "opensora/faults.h"

// Runs before the libraries' own initialisation.
__attribute__((section(".preinit_array"),
               used)) void (*const before_all)(int, char**, char**) = opensora::cli::start_patiently_if_busy;

int main(int argc, char** argv) {
  opensora::install_fault_handler();
  return opensora::cli::run(argc, argv);
}
