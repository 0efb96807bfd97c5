#include "cli/model_options.h"

#include <fmt/format.h>

#include <cstdlib>

#include "cli/logging.h"
#include "opensora/error.h"

namespace opensora::cli {
ModelFolder choose_model_folder(const std::string& flag) {
  if (!flag.empty()) return {flag, "--model-dir", true};
  if (const char* variable = std::getenv("OPENSORA_MODEL_DIR"); variable != nullptr && *variable != '\0') {
    return {variable, "OPENSORA_MODEL_DIR", true};
  }
  if (std::filesystem::is_directory("ckpts")) return {"ckpts", "./ckpts"};
  return {bundled_configs_dir() / "demo", "the bundled demo model; give --model-dir for another"};
}

void ModelOptions::add_to(CLI::App& command) {
  command
      .add_option(
          "--model-dir", model_dir,
          "Folder with the weights (default: $OPENSORA_MODEL_DIR, else ./ckpts if it is there, else the demo model)")
      ->type_name("DIR")
      ->group("Model");
  add_config_to(command);
}

void ModelOptions::add_config_to(CLI::App& command) {
  command
      .add_option("--config", config,
                  "Configuration: a file, or a name (256px, 768px, 720p, t2i2v_256px, t2i2v_768px, high_compression; "
                  "default: the model folder's config.json, else 256px)")
      ->type_name("NAME|FILE")
      ->group("Model");
}

std::filesystem::path ModelOptions::resolve_model_dir() const {
  const ModelFolder folder = choose_model_folder(model_dir);
  if (!std::filesystem::is_directory(folder.path)) {
    throw CheckpointError("model folder " + folder.path.string() + " (" + folder.source + "): no such folder");
  }
  log_with_next(fmt::format("model folder: {} ({})", folder.path.lexically_normal().string(), folder.source));
  return folder.path;
}

Config ModelOptions::resolve_config(const std::filesystem::path& folder) const {
  if (!config.empty()) return load_config(find_config(config));
  const std::filesystem::path own = folder / "config.json";
  return load_config(std::filesystem::exists(own) ? own : find_config("256px"));
}

}  // namespace opensora::cli
