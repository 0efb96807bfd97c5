// Whether this machine can run the program, and what to do where it cannot.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
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

struct DoctorOptions {
  std::filesystem::path model_dir;  // as generate would choose it
  std::string model_dir_source;     // "--model-dir", "OPENSORA_MODEL_DIR", …
  std::string config;               // a name or a file; empty: as generate would choose it
};

// Looks at everything; never throws for what it finds.
std::vector<Finding> diagnose(const DoctorOptions& options);

}  // namespace opensora
