#include "text/encoder_config.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "opensora/error.h"

namespace opensora::text {
namespace {

using nlohmann::json;

struct ConfigFile {
  std::filesystem::path path;
  json object;

  explicit ConfigFile(const std::filesystem::path& folder) : path(folder / "config.json") {
    std::ifstream stream(path);
    if (!stream) throw CheckpointError(path.string() + ": cannot be read; a text encoder's folder holds config.json");
    object = json::parse(stream, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) throw CheckpointError(path.string() + ": not a JSON object");
  }

  template <typename T>
  void read(const char* key, T& value) const {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) return;
    if (!found->is_number() || found->get<double>() <= 0) {
      throw CheckpointError(path.string() + ": \"" + key + "\" should be a positive number, found " + found->dump());
    }
    value = found->get<T>();
  }

  void expect(const char* key, const std::string& expected) const {
    const auto found = object.find(key);
    if (found == object.end() || *found == expected) return;
    throw CheckpointError(path.string() + ": \"" + key + "\" should be \"" + expected + "\", found " + found->dump());
  }

  void expect_divisible(const char* whole, int64_t a, const char* part, int64_t b) const {
    if (a % b == 0) return;
    throw CheckpointError(path.string() + ": \"" + whole + "\" (" + std::to_string(a) + ") is not a multiple of \"" +
                          part + "\" (" + std::to_string(b) + ")");
  }
};

}  // namespace

ClipConfig load_clip_config(const std::filesystem::path& folder) {
  ConfigFile file(folder);
  if (file.object.contains("text_config") && file.object["text_config"].is_object()) {
    file.object = json(file.object["text_config"]);
  }
  ClipConfig config;
  file.read("vocab_size", config.vocab_size);
  file.read("hidden_size", config.hidden_size);
  file.read("intermediate_size", config.intermediate_size);
  file.read("num_hidden_layers", config.num_hidden_layers);
  file.read("num_attention_heads", config.num_attention_heads);
  file.read("max_position_embeddings", config.max_position_embeddings);
  file.read("layer_norm_eps", config.layer_norm_eps);
  file.expect("hidden_act", "quick_gelu");
  file.expect_divisible("hidden_size", config.hidden_size, "num_attention_heads", config.num_attention_heads);
  return config;
}

T5Config load_t5_config(const std::filesystem::path& folder) {
  const ConfigFile file(folder);
  T5Config config;
  file.read("vocab_size", config.vocab_size);
  file.read("d_model", config.d_model);
  file.read("d_kv", config.d_kv);
  file.read("d_ff", config.d_ff);
  file.read("num_layers", config.num_layers);
  file.read("num_heads", config.num_heads);
  file.read("relative_attention_num_buckets", config.relative_attention_num_buckets);
  file.read("relative_attention_max_distance", config.relative_attention_max_distance);
  file.read("layer_norm_epsilon", config.layer_norm_epsilon);
  file.expect("feed_forward_proj", "gated-gelu");
  return config;
}

}  // namespace opensora::text
