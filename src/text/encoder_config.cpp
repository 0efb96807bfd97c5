#include "text/encoder_config.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "core/json_text.h"
#include "opensora/error.h"

namespace opensora::text {
namespace {

using nlohmann::json;

constexpr int64_t kMostLayers = 1000, kMostHeads = 4096, kMostPositions = int64_t{1} << 20;
constexpr int64_t kWidest = int64_t{1} << 20, kMostTokens = int64_t{1} << 24;

// What is wrong is collected, and told in one line by finish().
class ConfigFile {
 public:
  explicit ConfigFile(const std::filesystem::path& folder) : path_(folder / "config.json") {
    try {
      object = read_json_file(path_);
    } catch (const JsonError& error) {
      throw CheckpointError(path_.string() + ": " + error.what() + "; a text encoder's folder holds its config.json");
    }
    if (!object.is_object()) throw CheckpointError(path_.string() + ": not a JSON object");
  }

  void read(const char* key, int64_t& value, int64_t least, int64_t most) {
    const auto found = object.find(key);
    if (found == object.end()) return;
    const bool fits = found->is_number_integer() &&
                      (!found->is_number_unsigned() || found->get<uint64_t>() <= static_cast<uint64_t>(most)) &&
                      found->get<int64_t>() >= least && found->get<int64_t>() <= most;
    if (!fits) return note(key, fmt::format("a whole number from {} to {}", least, most), *found);
    value = found->get<int64_t>();
  }

  void read_epsilon(const char* key, double& value) {
    const auto found = object.find(key);
    if (found == object.end()) return;
    if (!found->is_number() || found->get<double>() <= 0 || found->get<double>() >= 1) {
      return note(key, "a number between 0 and 1", *found);
    }
    value = found->get<double>();
  }

  void expect(const char* key, const std::string& expected) {
    const auto found = object.find(key);
    if (found != object.end() && *found != expected) note(key, "\"" + expected + "\"", *found);
  }

  void require(bool valid, const std::string& problem) {
    if (!valid) problems_.push_back(problem);
  }

  void finish() const {
    if (!problems_.empty()) throw CheckpointError(fmt::format("{}: {}", path_.string(), fmt::join(problems_, "; ")));
  }

  json object;

 private:
  void note(const char* key, const std::string& expected, const json& found) {
    problems_.push_back(fmt::format("\"{}\": expected {}, found {}", key, expected, json_excerpt(found)));
  }

  std::filesystem::path path_;
  std::vector<std::string> problems_;
};

}  // namespace

ClipConfig load_clip_config(const std::filesystem::path& folder) {
  ConfigFile file(folder);
  if (file.object.contains("text_config") && file.object["text_config"].is_object()) {
    file.object = json(file.object["text_config"]);
  }
  ClipConfig config;
  file.read("vocab_size", config.vocab_size, 1, kMostTokens);
  file.read("hidden_size", config.hidden_size, 1, kWidest);
  file.read("intermediate_size", config.intermediate_size, 1, kWidest);
  file.read("num_hidden_layers", config.num_hidden_layers, 1, kMostLayers);
  file.read("num_attention_heads", config.num_attention_heads, 1, kMostHeads);
  file.read("max_position_embeddings", config.max_position_embeddings, 2, kMostPositions);
  file.read_epsilon("layer_norm_eps", config.layer_norm_eps);
  file.expect("hidden_act", "quick_gelu");
  file.require(config.hidden_size % config.num_attention_heads == 0,
               fmt::format("\"hidden_size\" ({}) is not a multiple of \"num_attention_heads\" ({})", config.hidden_size,
                           config.num_attention_heads));
  file.finish();
  return config;
}

T5Config load_t5_config(const std::filesystem::path& folder) {
  ConfigFile file(folder);
  T5Config config;
  file.read("vocab_size", config.vocab_size, 1, kMostTokens);
  file.read("d_model", config.d_model, 1, kWidest);
  file.read("d_kv", config.d_kv, 1, kWidest);
  file.read("d_ff", config.d_ff, 1, kWidest);
  file.read("num_layers", config.num_layers, 1, kMostLayers);
  file.read("num_heads", config.num_heads, 1, kMostHeads);
  file.read("relative_attention_num_buckets", config.relative_attention_num_buckets, 4, kMostPositions);
  file.read("relative_attention_max_distance", config.relative_attention_max_distance, 2, kMostPositions);
  file.read_epsilon("layer_norm_epsilon", config.layer_norm_epsilon);
  file.expect("feed_forward_proj", "gated-gelu");
  // Half of the buckets are for either direction, half of those for single distances; the rest grow up to the largest.
  file.require(config.relative_attention_max_distance > config.relative_attention_num_buckets / 4,
               fmt::format("\"relative_attention_max_distance\" ({}) is not above a quarter of "
                           "\"relative_attention_num_buckets\" ({})",
                           config.relative_attention_max_distance, config.relative_attention_num_buckets));
  file.finish();
  return config;
}

}  // namespace opensora::text
