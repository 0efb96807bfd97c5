// The errors that the library throws, and the exit code of the program for each.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace opensora {

// What the program exits with.
enum class ExitCode : int {
  kSuccess = 0,
  kInternal = 1,
  kUsage = 2,
  kPartlyFailed = 3,
  kCheckpoint = 4,
  kDevice = 5,
  kOutOfMemory = 6,
  kOutput = 7,
  kSuspicious = 8,
  kInputMedia = 9,
  kNumeric = 10,
  kTimedOut = 124,
  kInterrupted = 130,
  kTerminated = 143,
};

// The base of all errors: what() is one line that names the file, flag, key or tensor, what was expected and what
// was found, and where possible what to do.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

// A flag, a configuration file or a prompt that cannot be used.
struct UsageError : Error {
  explicit UsageError(const std::string& message) : Error(ExitCode::kUsage, message) {}
};

// A missing, corrupt or unsuitable checkpoint or tokenizer file.
struct CheckpointError : Error {
  explicit CheckpointError(const std::string& message) : Error(ExitCode::kCheckpoint, message) {}
};

// A device that is not there or whose libraries cannot be opened.
struct DeviceError : Error {
  explicit DeviceError(const std::string& message) : Error(ExitCode::kDevice, message) {}
};

struct OutOfMemoryError : Error {
  explicit OutOfMemoryError(const std::string& message, std::vector<std::string> would_fit = {})
      : Error(ExitCode::kOutOfMemory, message), flags(std::move(would_fit)) {}

  std::vector<std::string> flags;  // with which it would fit ("--vae-tiling", "--dtype bf16"); empty: none is known
};

// An output that cannot be written: folder, permission, space, existing file, encoder.
struct OutputError : Error {
  explicit OutputError(const std::string& message) : Error(ExitCode::kOutput, message) {}
};

// With GenerateRequest::strict: a video that was written, but is black, of one colour or frozen.
struct SuspiciousError : Error {
  explicit SuspiciousError(const std::string& message) : Error(ExitCode::kSuspicious, message) {}
};

// A reference image or video that cannot be read.
struct InputMediaError : Error {
  explicit InputMediaError(const std::string& message) : Error(ExitCode::kInputMedia, message) {}
};

// NaN or infinity in a latent or a video.
struct NumericError : Error {
  explicit NumericError(const std::string& message) : Error(ExitCode::kNumeric, message) {}
};

// A video took longer than it was given.
struct TimeoutError : Error {
  explicit TimeoutError(const std::string& message) : Error(ExitCode::kTimedOut, message) {}
};

// The run was asked to stop (SIGINT: 130, SIGTERM: 143).
struct InterruptedError : Error {
  explicit InterruptedError(int signal)
      : Error(static_cast<ExitCode>(128 + signal), "stopped by signal " + std::to_string(signal)) {}
};

}  // namespace opensora
