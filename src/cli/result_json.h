// A finished video, or a failure, as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "core/failure.h"
#include "opensora/error.h"
#include "opensora/generate.h"

namespace opensora::cli {

nlohmann::ordered_json to_json(const GenerateResult& result);

// {"error": message, "code": exit code, "flags": [those that would fit]}: what a command with --json prints of a
// failure.
nlohmann::ordered_json failure_json(const Failure& failure);

// A failure of which --json has printed all: it is told on stderr only.
class ToldError : public Error {
 public:
  using Error::Error;
};

// For a report that ends in a failure: prints it, with the failure's three fields, and throws ToldError.
[[noreturn]] void print_failed_report(nlohmann::ordered_json report, ExitCode code, const std::string& message);

// One line on stdout, at once: somebody may be waiting for it.
void print_json(const nlohmann::ordered_json& json);

}  // namespace opensora::cli
