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

// Where values come from, topmost first.
struct Layer {
  std::string name;  // what the table says; empty: the flag itself
  FlagValues values;
};

class Sources {
 public:
  Sources(const RowRequest& row, const FlagValues& given, const FlagValues& from, const GenerateOptions& options)
      : keys_(config_origins(row.request.config.name)) {
    const FlagValues flags = row.line > 0 ? lay_over(given, row.values, false) : given;
    layers_ = {{row.place, row.values},
               {"", without(flags, row.values)},
               {options.from.string(), without(lay_over(from, flags, true), flags)}};
  }

  std::string of(const std::string& key) const {
    const auto found = known_origins().find(key);
    const Origin origin = found == known_origins().end() ? Origin{} : found->second;
    Names flags = {key};
    std::replace(flags.front().begin(), flags.front().end(), '_', '-');
    flags.insert(flags.end(), origin.flags.begin(), origin.flags.end());
    for (const Layer& layer : layers_) {
      for (const std::string& flag : flags) {
        if (has(layer.values, flag)) return layer.name.empty() ? "--" + flag : layer.name;
      }
    }
    for (const std::string& config_key : origin.keys) {
      if (const auto file = keys_.find(config_key); file != keys_.end()) return file->second.string();
    }
    return "built-in";
  }

 private:
  static FlagValues without(const FlagValues& values, const FlagValues& above) {
    FlagValues rest;
    std::copy_if(values.begin(), values.end(), std::back_inserter(rest),
                 [&](const auto& value) { return !has(above, value.first); });
    return rest;
  }

  std::map<std::string, std::filesystem::path> keys_;
  std::vector<Layer> layers_;
};

// What a run has besides: it changes no content.
ordered_json run_values(const GenerateRequest& request) {
  return {{"model_dir", request.model_dir.string()},
          {"config", request.config.name},
          {"device", request.device},
          {"threads", request.threads > 0 ? ordered_json(request.threads) : ordered_json()},
          {"keep_models", request.keep_models},
          {"offload", request.offload},
          {"max_memory", request.max_memory > 0 ? ordered_json(request.max_memory) : ordered_json()},
          {"cuda_graphs", request.cuda_graphs},
          {"output", request.output.empty() ? ordered_json() : ordered_json(request.output.string())},
          {"overwrite", request.overwrite},
          {"sidecar", request.sidecar},
          {"no_metadata", !request.metadata}};
}

std::string table_text(const ordered_json& value) {
  if (value.is_null() || (value.is_array() && value.empty())) return "-";
  return value.dump();
}

void print_object(const ordered_json& values, const Sources& sources) {
  ordered_json object;
  for (const auto& [key, value] : values.items()) object[key] = {{"value", value}, {"source", sources.of(key)}};
  std::cout << object.dump() << '\n';
}

void print_table(const ordered_json& values, const Sources& sources) {
  constexpr size_t kWidest = 60;
  size_t width = 0;
  for (const auto& [key, value] : values.items()) width = std::max(width, table_text(value).size());
  width = std::min(width, kWidest);
  for (const auto& [key, value] : values.items()) {
    std::cout << fmt::format("{:<16} {:<{}}  {}\n", key, table_text(value), width, sources.of(key));
  }
}

}  // namespace

void print_config(const std::vector<RowRequest>& rows, const FlagValues& given, const FlagValues& from,
                  const GenerateOptions& options) {
  for (const RowRequest& row : rows) {
    ordered_json values = ordered_json::parse(effective_values(row.request));
    values.update(run_values(row.request));
    const Sources sources(row, given, from, options);
    if (options.json) {
      print_object(values, sources);
      continue;
    }
    if (!row.place.empty()) std::cout << (&row == &rows.front() ? "" : "\n") << row.place << ":\n";
    print_table(values, sources);
  }
}

}  // namespace opensora::cli
