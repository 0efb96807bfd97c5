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
  kRank = 11,
  kTimedOut = 124,
  kInterrupted = 130,
  kTerminated = 143,
};

// The base of all errors: what() is one line that names the file, field, key or tensor, what was expected and what was
// found, and where possible what to do. A field of a request stands in backticks, and is called as its flag with "_"
// for "-": `max_memory`.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

// An error of one code. What is thrown and caught goes by the names below.
template <ExitCode kCode>
struct ErrorOf : Error {
  explicit ErrorOf(const std::string& message) : Error(kCode, message) {}
};

// A field, a configuration file or a prompt that cannot be used.
using UsageError = ErrorOf<ExitCode::kUsage>;
// A missing, corrupt or unsuitable checkpoint or tokenizer file.
using CheckpointError = ErrorOf<ExitCode::kCheckpoint>;
// A device that is not there, whose libraries cannot be opened, or that failed.
using DeviceError = ErrorOf<ExitCode::kDevice>;
// An output that cannot be written: folder, permission, space, existing file, encoder.
using OutputError = ErrorOf<ExitCode::kOutput>;
// With GenerateRequest::strict: a video that was written, but is black, of one colour or frozen.
using SuspiciousError = ErrorOf<ExitCode::kSuspicious>;
// A reference image or video that cannot be read.
using InputMediaError = ErrorOf<ExitCode::kInputMedia>;
// NaN or infinity in a latent or a video.
using NumericError = ErrorOf<ExitCode::kNumeric>;
// Of many ranks that work together, one has failed without saying why, has ended, hangs or cannot be reached.
using RankError = ErrorOf<ExitCode::kRank>;
// A video took longer than it was given.
using TimeoutError = ErrorOf<ExitCode::kTimedOut>;

struct OutOfMemoryError : Error {
  explicit OutOfMemoryError(const std::string& message, std::vector<std::string> would_fit = {})
      : Error(ExitCode::kOutOfMemory, message), flags(std::move(would_fit)) {}

  // Fields with which it would fit: "`vae_tiling`", "`dtype` bf16"; empty: none is known.
  std::vector<std::string> flags;
};

// The run was asked to stop (SIGINT: 130, SIGTERM: 143).
struct InterruptedError : Error {
  explicit InterruptedError(int signal)
      : Error(static_cast<ExitCode>(128 + signal), "stopped by signal " + std::to_string(signal)) {}
};

}  // namespace opensora
