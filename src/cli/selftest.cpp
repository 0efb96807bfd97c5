// opensora selftest: whether the program computes what it should on this device.
#include "opensora/machine.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/parameter_options.h"
#include "cli/process.h"
#include "cli/standard_output.h"
#include "opensora/error.h"
#include "opensora/process.h"

namespace opensora::cli {
namespace {

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kFailed:
      return "FAILED";
    case Verdict::kSkipped:
      return "skipped";
  }
  return "";
}

void print(const SelftestResult& result) {
  std::cout << fmt::format("{:<7}  {:<9}  {}: {} ({:.2f} s)\n", verdict_name(result.verdict), result.topic, result.name,
                           request::with_flags(result.text), result.seconds)
            << std::flush;
}

nlohmann::ordered_json to_json(const SelftestReport& report) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array(), versions;
  for (const SelftestResult& result : report.results) {
    checks.push_back({{"topic", result.topic},
                      {"name", result.name},
                      {"verdict", verdict_name(result.verdict)},
                      {"text", request::with_flags(result.text)},
                      {"seconds", result.seconds}});
  }
  for (const auto& [name, value] : library_versions()) versions[name] = request::with_flags(value);
  return {{"ok", report.count(Verdict::kFailed) == 0},
          {"device", report.device},
          {"version", version()},
          {"libraries", versions},
          {"passed", report.count(Verdict::kOk)},
          {"failed", report.count(Verdict::kFailed)},
          {"skipped", report.count(Verdict::kSkipped)},
          {"checks", checks}};
}

void run(const CommandOptions& options, SelftestOptions checks) {
  spdlog::set_level(spdlog::level::warn);  // the runs within would tell of themselves
  options.apply_log();
  catch_signals();
  checks.device = options.settings.request.device;
  checks.threads = options.settings.request.threads;
  if (!options.json) checks.on_result = [](const SelftestResult& result) { print(result); };
  const SelftestReport report = selftest(checks);
  const int64_t failed = report.count(Verdict::kFailed);
  const std::string failure =
      fmt::format("selftest: {} of {} checks failed on {}", failed, report.results.size(), report.device);
  if (options.json) {
    if (failed > 0) print_failed_report(to_json(report), ExitCode::kInternal, failure);
    print_json(to_json(report));
  } else {
    std::cout << fmt::format("{} on {}: {} ok, {} failed, {} skipped\n", failed == 0 ? "ok" : "FAILED", report.device,
                             report.count(Verdict::kOk), failed, report.count(Verdict::kSkipped));
  }
  if (failed > 0) throw Error(ExitCode::kInternal, failure);
}

}  // namespace

void add_selftest(CLI::App& app) {
  auto options = std::make_shared<CommandOptions>();
  auto checks = std::make_shared<SelftestOptions>();
  CLI::App* command = app.add_subcommand(
      "selftest", "Compute bundled cases on the device in every dtype and compare with the official code's results");
  add_parameters(*command, options->settings, {"device", "threads"});
  command->add_option("--dtype", checks->dtypes, "fp32, bf16 or fp16, several with commas (default: all)")
      ->check(one_of({"fp32", "bf16", "fp16"}))
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group("Machine");
  options->add_json_to(*command, "Print one JSON object at the end");
  options->add_log_to(*command);
  command->footer(
      "Each line is ok, FAILED or skipped, and says what was measured and allowed. The exit code is 0, or 1 if a "
      "check\n"
      "failed.\n"
      "Examples:\n"
      "  opensora selftest --device cuda\n"
      "  opensora selftest --dtype bf16 --json");
  command->callback([options, checks] { run(*options, *checks); });
}

}  // namespace opensora::cli
