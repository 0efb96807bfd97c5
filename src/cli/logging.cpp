#include "cli/logging.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>

namespace opensora::cli {

void init_logging() {
  const char* no_color = std::getenv("NO_COLOR");
  const bool plain = no_color != nullptr && *no_color != '\0';
  auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(plain ? spdlog::color_mode::never
                                                                          : spdlog::color_mode::automatic);
  auto logger = std::make_shared<spdlog::logger>("opensora", std::move(sink));
  logger->set_pattern("opensora: %^%l%$: %v");
  spdlog::set_default_logger(std::move(logger));
}

void LogOptions::add_to(CLI::App& command) {
  const char* group = "Log";
  auto* quiet_flag = command.add_flag("-q,--quiet", quiet, "Errors only; no progress")->group(group);
  auto* verbose_flag = command.add_flag("-v,--verbose", verbose, "More detail")->group(group);
  auto* level_option =
      command.add_option("--log-level", level, "trace, debug, info, warn, error or off (default info)")
          ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
          ->group(group);
  quiet_flag->excludes(verbose_flag)->excludes(level_option);
  verbose_flag->excludes(level_option);
}

void LogOptions::apply() const {
  if (!level.empty()) {
    spdlog::set_level(spdlog::level::from_str(level));
  } else if (quiet) {
    spdlog::set_level(spdlog::level::err);
  } else if (verbose) {
    spdlog::set_level(spdlog::level::debug);
  }
}

}  // namespace opensora::cli
