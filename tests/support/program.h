// Running the built program as a user does.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace opensora::test {

struct ProgramResult {
  int exit_code = -1;  // 128 + N where signal N ended it
  std::string out, err;
};

struct ProgramOptions {
  std::string folder;                    // working directory; empty: this one
  std::vector<std::string> environment;  // "NAME=value" added
  long max_address_space = 0;            // bytes; 0: no limit
  int signal_after_ms = 0;               // SIGINT after so long; 0: none
  std::function<void(pid_t)> meanwhile;  // called once it has started, with its process id
};

ProgramResult run_program(const std::vector<std::string>& arguments, const ProgramOptions& options = {});

}  // namespace opensora::test
