// What an exception comes to: an exit code and a line. The one place that knows how libraries say that memory ran out.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "opensora/error.h"

namespace opensora {

struct Failure {
  int code = static_cast<int>(ExitCode::kInternal);  // the exit code that a run of this alone would have
  std::string message;                               // one line (of a prompts file: one for each error in it)
  std::vector<std::string> flags;                    // with which it would fit, where memory ran out and some would
  std::string detail;                                // of an internal error: all that the library says; else empty
};

// OutOfMemoryError, std::bad_alloc, LibTorch's allocators, CUDA's libraries, a thread that cannot be started, a library
// or file that cannot be mapped for lack of memory: kOutOfMemory. Any other Error: as it says. What else LibTorch
// reports of CUDA and its libraries: kDevice. All else is an internal error.
Failure describe_failure(const std::exception_ptr& error);

// Whether a library's or the system's words mean that memory has run out.
bool says_out_of_memory(std::string_view text);

}  // namespace opensora
