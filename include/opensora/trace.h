// What runs when, as a file for chrome://tracing or ui.perfetto.dev.
#pragma once

#include <filesystem>
#include <memory>

namespace opensora {

// Records all threads from its making on: stages, steps, layers, and operators of LibTorch that take 10 microseconds or
// more. One at a time in a process. On a GPU layers and operators are as long as the host took to launch them.
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
