#include "cli/print_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "opensora/metadata.h"

namespace opensora::cli {
namespace {

using nlohmann::ordered_json;
using Names = std::vector<std::string>;

// What else than the flag of its name decides a value: other flags, and keys of the configuration.
struct Origin {
  Names flags, keys;
};

const std::map<std::string, Origin>& known_origins() {
  const std::string s = "sampling_option.";
  static const std::map<std::string, Origin> origins = {
      {"cond_type", {{"image", "end-image", "video"}, {"cond_type"}}},
      {"image", {{"end-image"}, {}}},
      {"t2i2v", {{"image", "end-image", "video"}, {"use_t2i2v"}}},
      {"image_size", {{"image-resolution"}, {"img_resolution"}}},
      {"width", {{"resolution", "aspect-ratio"}, {s + "width", s + "resolution", s + "aspect_ratio"}}},
      {"height", {{"resolution", "aspect-ratio"}, {s + "height", s + "resolution", s + "aspect_ratio"}}},
      {"num_frames", {{}, {s + "num_frames"}}},
      {"fps", {{}, {"fps_save"}}},
      {"motion_score", {{}, {"motion_score"}}},
      {"steps", {{}, {s + "num_steps"}}},
      {"guidance", {{}, {s + "guidance"}}},
      {"guidance_img", {{}, {s + "guidance_img"}}},
      {"flow_shift", {{}, {s + "flow_shift"}}},
      {"text_osci", {{}, {s + "text_osci"}}},
      {"image_osci", {{}, {s + "image_osci"}}},
      {"temporal_osci", {{}, {s + "scale_temporal_osci"}}},
      {"vae_tiling", {{}, {"ae.use_spatial_tiling", "ae.use_temporal_tiling"}}},
      {"seed", {{}, {s + "seed"}}}};
  return origins;
}

bool has(const FlagValues& values, const std::string& name) {
  return std::any_of(values.begin(), values.end(), [&](const auto& value) { return value.first == name; });
}

class Sources {
 public:
  Sources(const GenerateRequest& request, const FlagValues& given, const FlagValues& from,
          const GenerateOptions& options)
      : given_(given), keys_(config_origins(request.config.name)), from_name_(options.from.string()) {
    const FlagValues all = lay_over(from, given, true);
    std::copy_if(all.begin(), all.end(), std::back_inserter(from_),
                 [&](const auto& value) { return !has(given, value.first); });
  }

  std::string of(const std::string& key) const {
    const auto found = known_origins().find(key);
    const Origin origin = found == known_origins().end() ? Origin{} : found->second;
    Names flags = {key};
    std::replace(flags.front().begin(), flags.front().end(), '_', '-');
    flags.insert(flags.end(), origin.flags.begin(), origin.flags.end());
    for (const std::string& flag : flags) {
      if (has(given_, flag)) return "--" + flag;
    }
    for (const std::string& flag : flags) {
      if (has(from_, flag)) return from_name_;
    }
    for (const std::string& config_key : origin.keys) {
      if (const auto file = keys_.find(config_key); file != keys_.end()) return file->second.string();
    }
    return "built-in";
  }

 private:
  const FlagValues& given_;
  FlagValues from_;
  std::map<std::string, std::filesystem::path> keys_;
  std::string from_name_;
};

// What a run has besides: it changes no content.
ordered_json run_values(const GenerateRequest& request) {
  return {{"model_dir", request.model_dir.string()},
          {"config", request.config.name},
          {"device", request.device},
          {"threads", request.threads > 0 ? ordered_json(request.threads) : ordered_json()},
          {"keep_models", request.keep_models},
          {"output", request.output.empty() ? ordered_json() : ordered_json(request.output.string())},
          {"overwrite", request.overwrite},
          {"sidecar", request.sidecar},
          {"no_metadata", !request.metadata}};
}

std::string table_text(const ordered_json& value) {
  if (value.is_null() || (value.is_array() && value.empty())) return "-";
  return value.dump();
}

}  // namespace

void print_config(const GenerateRequest& request, const FlagValues& given, const FlagValues& from,
                  const GenerateOptions& options) {
  ordered_json values = ordered_json::parse(effective_values(request));
  values.update(run_values(request));
  const Sources sources(request, given, from, options);
  if (options.json) {
    ordered_json object;
    for (const auto& [key, value] : values.items()) object[key] = {{"value", value}, {"source", sources.of(key)}};
    std::cout << object.dump() << '\n';
    return;
  }
  constexpr size_t kWidest = 60;
  size_t width = 0;
  for (const auto& [key, value] : values.items()) width = std::max(width, table_text(value).size());
  width = std::min(width, kWidest);
  for (const auto& [key, value] : values.items()) {
    std::cout << fmt::format("{:<16} {:<{}}  {}\n", key, table_text(value), width, sources.of(key));
  }
}

}  // namespace opensora::cli
