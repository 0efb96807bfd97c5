#include "cli/app.h"
#include "opensora/faults.h"

int main(int argc, char** argv) {
  opensora::install_fault_handler();
  return opensora::cli::run(argc, argv);
}
