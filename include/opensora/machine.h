// This machine: whether it can run the program (diagnose), and whether it computes what it should (selftest).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "opensora/error.h"

namespace opensora {

enum class Health { kOk, kWarning, kError };

// One thing looked at, one line.
struct Finding {
  std::string topic;  // "versions", "cpu", "memory", "gpu", "cuda", "ffmpeg", "threads", "models", "configs", "folders"
  Health health = Health::kOk;
  std::string text;                    // what was found
  std::string advice;                  // what to do; empty where nothing is to be done
  ExitCode code = ExitCode::kSuccess;  // of an error: what a run would exit with
};

// Looks at everything; never throws for what it finds. `model_dir` is the folder that generate would choose, and
// `model_dir_source` says why: "--model-dir", "OPENSORA_MODEL_DIR", …. `config`: a name or a file; empty: as generate
// would choose it.
std::vector<Finding> diagnose(const std::filesystem::path& model_dir, const std::string& model_dir_source,
                              const std::string& config);

enum class Verdict { kOk, kFailed, kSkipped };

// One check, one line.
struct SelftestResult {
  std::string topic;  // "golden", "attention", "size", "speed", …
  std::string name;   // "clip bf16"
  Verdict verdict = Verdict::kOk;
  std::string text;  // what was measured and what is allowed; why it was skipped
  double seconds = 0;
};

struct SelftestOptions {
  std::string device = "auto";      // "auto", "cpu", "cuda", "cuda:N"
  std::vector<std::string> dtypes;  // of "fp32", "bf16", "fp16"; empty: all
  int threads = 0;                  // CPU threads; 0: LibTorch's choice
  // Called after each check.
  std::function<void(const SelftestResult&)> on_result;
};

struct SelftestReport {
  std::string device;
  std::vector<SelftestResult> results;

  int64_t count(Verdict verdict) const;
};

// Runs bundled cases of the official code through every model and two whole runs in each dtype, compares the kernels of
// attention with its definition, runs the transformer's blocks at the sizes of real videos (on the CPU at small ones)
// with the time and memory that a plan gives them, and measures what matrix products and attention reach. A check that
// throws has failed: this throws only what comes before the checks: DeviceError, UsageError, and CheckpointError where
// the bundled cases are not there.
SelftestReport selftest(const SelftestOptions& options);

}  // namespace opensora
