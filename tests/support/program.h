// Running the built program as a user does.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace opensora::test {

using Arguments = std::vector<std::string>;

Arguments operator+(Arguments a, const Arguments& b);

struct ProgramResult {
  int exit_code = -1;  // 128 + N where signal N ended it
  std::string out, err;
};

struct ProgramOptions {
  std::string folder;                    // working directory; empty: this one
  std::vector<std::string> environment;  // "NAME=value" added
  long max_address_space = 0;            // bytes; 0: no limit
  int ignored_signal = 0;                // that the program is started with; all others do what they do by default
  bool starts_anew = false;              // from its file, though a copy of this process could serve as well
  std::function<void(pid_t)> meanwhile;  // called once it has started, with its process id
};

// Where nothing stands against it, the program is a copy of this process (program.cpp); the golden cases, tests/readme,
// tests/pipelines and what changes the environment start its file.
ProgramResult run_program(const Arguments& arguments, const ProgramOptions& options = {});

// What it prints when it must succeed and say nothing on stderr.
std::string output_of(const Arguments& arguments);

// The manual, whose tables and flags are held against the program's.
std::filesystem::path readme_file();
std::string readme();

// For ProgramOptions::meanwhile: waits for as long as it takes. False if the program ended without it.
bool wait_until(pid_t program, const std::function<bool()>& condition);
// Until a file of events or a journal has so many lines of that event ("": of any), which it is written to as they
// occur.
bool wait_for_event(pid_t program, const std::filesystem::path& lines, const std::string& event, int count = 1);

}  // namespace opensora::test
