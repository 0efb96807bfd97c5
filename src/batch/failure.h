// What went wrong with a video, as lines of JSON and messages say it.
#pragma once

#include <exception>
#include <string>

#include "opensora/error.h"

namespace opensora::batch {

struct Failure {
  int code = static_cast<int>(ExitCode::kInternal);  // the exit code that a run of this video alone would have
  std::string message;
};

inline Failure describe_failure(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& known) {
    return {static_cast<int>(known.code()), known.what()};
  } catch (const std::exception& other) {
    return {static_cast<int>(ExitCode::kInternal), other.what()};
  }
}

}  // namespace opensora::batch
