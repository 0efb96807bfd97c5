#include "opensora/selftest.h"

#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <sstream>

#include "core/device.h"
#include "core/threads.h"
#include "core/weights.h"
#include "nn/attention.h"
#include "opensora/config.h"
#include "opensora/error.h"
#include "opensora/stop.h"
#include "pipeline/selftest_check.h"

namespace opensora {

namespace fs = std::filesystem;

namespace pipeline {

Outcome compare(const at::Tensor& actual, const at::Tensor& expected, double limit) {
  if (actual.sizes() != expected.sizes()) {
    return {Verdict::kFailed,
            fmt::format("shape {}, expected {}", shape_string(actual.sizes()), shape_string(expected.sizes()))};
  }
  const at::Tensor want = expected.to(at::kCPU, at::kDouble);
  const at::Tensor difference = actual.to(at::kCPU).to(at::kDouble) - want;
  const double error = (difference.norm() / want.norm()).item<double>();
  const bool ok = error <= limit;  // false for NaN
  return {ok ? Verdict::kOk : Verdict::kFailed, fmt::format("error {:.1e}, at most {:.1e}", error, limit)};
}

Outcome skipped(std::string why) { return {Verdict::kSkipped, std::move(why)}; }

fs::path selftest_data_dir() {
  const fs::path configs = bundled_configs_dir();
  const fs::path in_source = configs.parent_path() / "tests/data/reference", installed = configs / "../selftest";
  for (const fs::path& folder : {in_source, installed}) {
    std::error_code unreadable;
    if (fs::is_directory(folder / "cases", unreadable)) return folder.lexically_normal();
  }
  throw CheckpointError("the selftest's cases are neither in " + in_source.string() + " nor in " +
                        installed.lexically_normal().string() + "; install the program with cmake --install");
}

}  // namespace pipeline

namespace {

using pipeline::Outcome;
using pipeline::SelfCheck;

// The first line of what went wrong: LibTorch's errors end with a stack.
std::string first_line(const char* text) {
  std::string line;
  std::istringstream lines(text);
  std::getline(lines, line);
  return line;
}

SelftestResult perform(const SelfCheck& check) {
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome;
  try {
    outcome = check.run();
  } catch (const InterruptedError&) {
    throw;
  } catch (const std::exception& error) {
    outcome = {Verdict::kFailed, first_line(error.what())};
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {check.topic, check.name, outcome.verdict, outcome.text, seconds.count()};
}

}  // namespace

int64_t SelftestReport::count(Verdict verdict) const {
  return std::count_if(results.begin(), results.end(), [&](const auto& result) { return result.verdict == verdict; });
}

SelftestReport selftest(const SelftestOptions& options) {
  const c10::InferenceMode inference;
  use_threads(options.threads);
  const fs::path data = pipeline::selftest_data_dir();
  pipeline::SelftestMachine machine{.device = resolve_device(options.device), .dtypes = {}};
  for (const std::string& name : options.dtypes) machine.dtypes.push_back(resolve_dtype(name, machine.device));
  if (options.dtypes.empty()) machine.dtypes = {at::kFloat, at::kBFloat16, at::kHalf};
  nn::prefer_fast_attention();

  SelftestReport report{.device = machine.device.str(), .results = {}};
  for (const auto& checks : {pipeline::golden_checks(machine, data), pipeline::attention_checks(machine),
                             pipeline::kernel_checks(machine), pipeline::speed_checks(machine)}) {
    for (const SelfCheck& check : checks) {
      throw_if_stopped();
      report.results.push_back(perform(check));
      if (options.on_result) options.on_result(report.results.back());
    }
  }
  return report;
}

}  // namespace opensora
