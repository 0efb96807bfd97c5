#include "cli/options.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <system_error>

#include "cli/parameter_options.h"
#include "cli/standard_error.h"
#include "opensora/error.h"

namespace opensora::cli {

void CommandOptions::add_json_to(CLI::App& command, const std::string& description, const std::string& group) {
  CLI::Option* option = command.add_flag("--json", json, description);
  if (!group.empty()) option->group(group);
}

void CommandOptions::add_progress_to(CLI::App& command) {
  command.add_option("--progress", progress, "auto, bar, plain or none")
      ->check(one_of({"auto", "bar", "plain", "none"}))
      ->capture_default_str()
      ->group("Output");
}

void CommandOptions::add_log_to(CLI::App& command) {
  const char* group = "Log";
  auto* quiet_flag = command.add_flag("-q,--quiet", quiet, "Errors only; no progress")->group(group);
  auto* verbose_flag = command.add_flag("-v,--verbose", verbose, "More detail")->group(group);
  auto* level_option =
      command.add_option("--log-level", log_level, "trace, debug, info, warn, error or off (default info)")
          ->check(one_of({"trace", "debug", "info", "warn", "error", "off"}))
          ->group(group);
  quiet_flag->excludes(verbose_flag)->excludes(level_option);
  verbose_flag->excludes(level_option);
}

void CommandOptions::apply_log() const {
  if (!log_level.empty()) {
    spdlog::set_level(spdlog::level::from_str(log_level));
  } else if (quiet) {
    spdlog::set_level(spdlog::level::err);
  } else if (verbose) {
    spdlog::set_level(spdlog::level::debug);
  }
}

ModelFolder choose_model_folder(const std::filesystem::path& named) {
  if (!named.empty()) return {named, "--model-dir", true};
  if (const char* variable = std::getenv("OPENSORA_MODEL_DIR"); variable != nullptr && *variable != '\0') {
    return {variable, "OPENSORA_MODEL_DIR", true};
  }
  std::error_code unreadable;
  if (std::filesystem::is_directory("ckpts", unreadable)) return {"ckpts", "./ckpts"};
  return {bundled_configs_dir() / "demo", "the bundled demo model; give --model-dir for another"};
}

std::filesystem::path resolve_model_dir(const std::filesystem::path& named) {
  const ModelFolder folder = choose_model_folder(named);
  std::error_code error;
  const auto status = std::filesystem::status(folder.path, error);
  if (!std::filesystem::is_directory(status)) {
    // A file is "no such folder" as well. A name that is too long or a circle of links has a reason of its own.
    const bool is_told = error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory;
    throw CheckpointError("model folder " + folder.path.string() + " (" + folder.source +
                          "): " + (is_told ? error.message() : "no such folder"));
  }
  log_with_next(fmt::format("model folder: {} ({})", folder.path.lexically_normal().string(), folder.source));
  return folder.path;
}

Config resolve_config(const std::string& named, const std::filesystem::path& folder) {
  if (!named.empty()) return load_config(find_config(named));
  const std::filesystem::path own = folder / "config.json";
  std::error_code unreadable;
  return load_config(std::filesystem::exists(own, unreadable) ? own : find_config("256px"));
}

}  // namespace opensora::cli
