// What concerns the whole process that uses the library: versions, the wish that it stops, faults of mapped files, and
// a trace of what it does.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace opensora {

std::string version();  // "0.1.0"

// Name and version of each library that is loaded, and the state of CUDA on this machine.
std::vector<std::pair<std::string, std::string>> library_versions();

// From now on whatever works, waits or reads in this library throws InterruptedError(signal) at its next look: at the
// next block of a model, frame, tensor or tenth of a second of waiting. Nothing half-written remains. The first call
// counts. May be called in a signal handler.
void request_stop(int signal) noexcept;

// The signal's number that was asked for; 0: nobody wants the process to stop.
int stop_signal() noexcept;

// The look. Throws InterruptedError.
void throw_if_stopped();

// From now on, where a mapped checkpoint is truncated or its disk fails while its data is read (SIGBUS), the process
// prints one line to stderr that names the file, writes {"schema_version":1,"event":"fault","file":"..."} as a line to
// the descriptors below and ends with exit code 4. Any other SIGBUS does what it did by default. For programs, as
// libraries do not install signal handlers by themselves. Call once, first of all.
void install_fault_handler();

// A descriptor that gets that line: a journal's, opened for appending. At most 8 at a time; others are ignored. Remove
// it before it is closed. Any thread.
void add_fault_descriptor(int fd);
void remove_fault_descriptor(int fd);

// What runs when, as a file for chrome://tracing or ui.perfetto.dev. Records all threads from its making on: stages,
// steps, layers, and operators of LibTorch that take 10 microseconds or more. One at a time in a process. On a GPU
// layers and operators are as long as the host took to launch them.
class Trace {
 public:
  // Throws OutputError if the file cannot be written. An existing file is replaced.
  explicit Trace(const std::filesystem::path& file);
  ~Trace();  // without finish() nothing is written
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // Stops recording and writes {"traceEvents": [{"name", "cat": "span" or "operator", "ph": "X", "ts", "dur", "pid",
  // "tid"}, …]}, times in microseconds. Throws OutputError.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace opensora
