// The program: subcommands, and exceptions to exit codes.
#pragma once

namespace opensora::cli {

// Parses the command line, runs its subcommand, and returns the exit code (README.md lists them).
int run(int argc, char** argv);

}  // namespace opensora::cli
