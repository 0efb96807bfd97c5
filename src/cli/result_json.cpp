#include "cli/result_json.h"

#include <iostream>

#include "batch/stage_seconds.h"

namespace opensora::cli {

nlohmann::ordered_json to_json(const GenerateResult& result) {
  return {{"output", result.output.string()},
          {"image", result.image.empty() ? nlohmann::json() : nlohmann::json(result.image.string())},
          {"seed", result.seed},
          {"prompt", result.effective_prompt},
          {"width", result.width},
          {"height", result.height},
          {"frames", result.frames},
          {"steps", result.steps},
          {"forwards", result.forwards},
          {"image_forwards", result.image_forwards},
          {"device", result.device},
          {"dtype", result.dtype},
          {"attention", result.attention},
          {"cuda_graphs", result.cuda_graphs},
          {"expected_seconds", result.expected_seconds ? nlohmann::json(*result.expected_seconds) : nlohmann::json()},
          {"suspicious", result.suspicious},
          {"latent", result.latent.empty() ? nlohmann::json() : nlohmann::json(result.latent.string())},
          {"seconds", batch::stage_seconds(result.seconds)},
          {"peak_memory_bytes", result.peak_resident_bytes},
          {"peak_device_memory_bytes", result.peak_device_bytes}};
}

nlohmann::ordered_json failure_json(const Failure& failure) {
  return {{"error", failure.message}, {"code", failure.code}, {"flags", failure.flags}};
}

void print_failed_report(nlohmann::ordered_json report, ExitCode code, const std::string& message) {
  report.update(failure_json({.code = static_cast<int>(code), .message = message, .flags = {}, .detail = {}}));
  print_json(report);
  throw ToldError(code, message);
}

void print_json(const nlohmann::ordered_json& json) {
  std::cout << json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
}

}  // namespace opensora::cli
