// The program: subcommands, and exceptions to exit codes.
#pragma once

#include <CLI/CLI.hpp>

namespace opensora::cli {

// Gives `app` the program's name, options and commands. Parsing runs the command.
void set_up(CLI::App& app);

// Parses the command line, runs its subcommand, and returns the exit code (README.md lists them). What was printed and
// could not be written is an error too; where the reader of a pipe has gone, the program ends as others do: by SIGPIPE,
// unless that is ignored.
int run(int argc, char** argv);

}  // namespace opensora::cli
