// Sizes of a text encoder from its tensors' shapes.
#include "opensora/error.h"
#include "text/encoder_config.h"

namespace opensora::text {
namespace {

constexpr const char* kClipLayers = "text_model.encoder.layers.";
constexpr const char* kT5Blocks = "encoder.block.";

// The shape of a matrix: [rows, columns].
std::vector<int64_t> matrix(const WeightSource& weights, const std::string& name) {
  const std::optional<at::Tensor> tensor = weights.find(name, {});
  if (tensor && tensor->dim() == 2 && tensor->numel() > 0) return tensor->sizes().vec();
  throw CheckpointError(weights.description() + ": " + name + " is " + (tensor ? "not a matrix" : "missing") +
                        ", so the encoder's sizes cannot be told; put the model's config.json beside the weights");
}

}  // namespace

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
