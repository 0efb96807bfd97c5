#include "cli/model_folder.h"

#include <fmt/format.h>

#include <cstdlib>

#include "cli/logging.h"
#include "opensora/error.h"

namespace opensora::cli {

ModelFolder choose_model_folder(const std::filesystem::path& named) {
  if (!named.empty()) return {named, "--model-dir", true};
  if (const char* variable = std::getenv("OPENSORA_MODEL_DIR"); variable != nullptr && *variable != '\0') {
    return {variable, "OPENSORA_MODEL_DIR", true};
  }
  if (std::filesystem::is_directory("ckpts")) return {"ckpts", "./ckpts"};
  return {bundled_configs_dir() / "demo", "the bundled demo model; give --model-dir for another"};
}

std::filesystem::path resolve_model_dir(const std::filesystem::path& named) {
  const ModelFolder folder = choose_model_folder(named);
  if (!std::filesystem::is_directory(folder.path)) {
    throw CheckpointError("model folder " + folder.path.string() + " (" + folder.source + "): no such folder");
  }
  log_with_next(fmt::format("model folder: {} ({})", folder.path.lexically_normal().string(), folder.source));
  return folder.path;
}

Config resolve_config(const std::string& named, const std::filesystem::path& folder) {
  if (!named.empty()) return load_config(find_config(named));
  const std::filesystem::path own = folder / "config.json";
  return load_config(std::filesystem::exists(own) ? own : find_config("256px"));
}

}  // namespace opensora::cli
