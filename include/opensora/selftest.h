// Whether the program computes what it should on this machine's device: for the first person with a GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace opensora {

enum class Verdict { kOk, kFailed, kSkipped };

// One check, one line.
struct SelftestResult {
  std::string topic;  // "golden", "attention", "speed", …
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
// attention with its definition, and measures what matrix products and attention reach. A check that throws has failed:
// this throws only what comes before the checks: DeviceError, UsageError, and CheckpointError where the bundled cases
// are not there.
SelftestReport selftest(const SelftestOptions& options);

}  // namespace opensora
