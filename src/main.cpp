#include "cli/app.h"
#include "cli/process.h"
#include "core/local_file.h"

// These run before the libraries initialise themselves.
__attribute__((section(".preinit_array"), used)) void (*const before_all[])(int, char**, char**) = {
    opensora::cli::watch_for_uncaught_exceptions, opensora::leave_removed_folder,
    opensora::cli::start_patiently_if_busy};

int main(int argc, char** argv) { opensora::cli::run_process(argc, argv); }
