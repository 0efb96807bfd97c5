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

// Problems are collected, and thrown as one line by finish().
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

constexpr const char* kClipLayers = "text_model.encoder.layers.";
constexpr const char* kT5Blocks = "encoder.block.";

// The shape of a matrix: [rows, columns].
std::vector<int64_t> matrix(const WeightSource& weights, const std::string& name) {
  if (const auto quantized = weights.quantized(name, {})) return quantized->shape();
  const std::optional<at::Tensor> tensor = weights.find(name, {});
  if (tensor && tensor->dim() == 2 && tensor->numel() > 0) return tensor->sizes().vec();
  throw CheckpointError(weights.description() + ": " + name + " is " + (tensor ? "not a matrix" : "missing") +
                        ", so the encoder's sizes cannot be told; put the model's config.json beside the weights");
}

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

ClipConfig deduce_clip_config(const WeightSource& weights) {
  constexpr int64_t kHeadWidth = 64;
  ClipConfig config;
  const std::vector<int64_t> tokens = matrix(weights, "text_model.embeddings.token_embedding.weight");
  config.vocab_size = tokens[0];
  config.hidden_size = tokens[1];
  config.max_position_embeddings = matrix(weights, "text_model.embeddings.position_embedding.weight")[0];
  config.intermediate_size = matrix(weights, kClipLayers + std::string("0.mlp.fc1.weight"))[0];
  config.num_hidden_layers = count_numbered(weights, kClipLayers, ".mlp.fc1.weight");
  if (config.hidden_size % kHeadWidth != 0) {
    throw CheckpointError(weights.description() + ": width " + std::to_string(config.hidden_size) +
                          " is not a multiple of 64, so the number of heads cannot be told; put the model's "
                          "config.json beside the weights");
  }
  config.num_attention_heads = config.hidden_size / kHeadWidth;
  return config;
}

T5Config deduce_t5_config(const WeightSource& weights) {
  const std::string first = kT5Blocks + std::string("0.layer.");
  T5Config config;
  const bool shared = weights.contains("shared.weight");
  const std::vector<int64_t> tokens = matrix(weights, shared ? "shared.weight" : "encoder.embed_tokens.weight");
  config.vocab_size = tokens[0];
  config.d_model = tokens[1];
  const std::vector<int64_t> bias = matrix(weights, first + "0.SelfAttention.relative_attention_bias.weight");
  config.relative_attention_num_buckets = bias[0];
  config.num_heads = bias[1];
  config.d_kv = matrix(weights, first + "0.SelfAttention.q.weight")[0] / config.num_heads;
  config.d_ff = matrix(weights, first + "1.DenseReluDense.wi_0.weight")[0];
  config.num_layers = count_numbered(weights, kT5Blocks, ".layer.1.DenseReluDense.wi_0.weight");
  return config;
}

}  // namespace opensora::text
