#include "cli/logging.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "cli/validators.h"

namespace opensora::cli {
namespace {

std::mutex g_waiting_mutex;
std::string g_waiting_line;

std::string take_waiting_line() {
  const std::lock_guard lock(g_waiting_mutex);
  return std::exchange(g_waiting_line, {});
}

using StderrSink = spdlog::sinks::ansicolor_stderr_sink<spdlog::details::console_mutex>;

class PatientSink final : public StderrSink {
 public:
  using StderrSink::StderrSink;
  void log(const spdlog::details::log_msg& message) override {
    log_waiting_line();
    StderrSink::log(message);
  }
};

}  // namespace

void log_with_next(std::string line) {
  const std::lock_guard lock(g_waiting_mutex);
  g_waiting_line = std::move(line);
}

void log_waiting_line() {
  if (const std::string line = take_waiting_line(); !line.empty()) spdlog::info("{}", line);
}

void drop_waiting_line() { take_waiting_line(); }

void init_logging() {
  const char* no_color = std::getenv("NO_COLOR");
  const bool plain = no_color != nullptr && *no_color != '\0';
  auto sink = std::make_shared<PatientSink>(plain ? spdlog::color_mode::never : spdlog::color_mode::automatic);
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
          ->check(one_of({"trace", "debug", "info", "warn", "error", "off"}))
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
