// The program as a whole: its commands, and how exceptions become exit codes.
#pragma once

#include <CLI/CLI.hpp>

namespace opensora::cli {

// Gives `app` the program's name, options and commands. Parsing runs the command.
void set_up(CLI::App& app);

// Parses the command line, runs its command, and returns the exit code (README.md lists them). It is an error too if
// what was printed could not be written. Where the reader of a pipe has gone, the program ends as others do, by
// SIGPIPE, unless that is ignored.
int run(int argc, char** argv);

// All of the process from main() on: gets it ready, calls run() and ends it with the exit code, without LibTorch's
// tear-down.
[[noreturn]] void run_process(int argc, char** argv);

}  // namespace opensora::cli
