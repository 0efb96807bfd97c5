#include "cli/model_folder.h"

#include <fmt/format.h>

#include <cstdlib>
#include <system_error>

#include "cli/logging.h"
#include "opensora/error.h"

namespace opensora::cli {

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
    // What is a file is no folder either; names that are too long and links in a circle have their own reasons.
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
