#include "text/encoders.h"

#include <cmath>

#include "core/cpu_features.h"
#include "core/trace.h"
#include "nn/attention.h"
#include "opensora/process.h"

namespace opensora::text {
namespace {

at::Tensor quick_gelu(const at::Tensor& x) { return x * at::sigmoid(1.702 * x); }

std::vector<ClipLayer> bind_layers(const Weights& weights, const ClipConfig& config) {
  std::vector<ClipLayer> layers;
  layers.reserve(static_cast<size_t>(config.num_hidden_layers));
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) layers.emplace_back(weights[i], config);
  return layers;
}

// The embedding table goes by either name, depending on who saved the file.
nn::Embedding bind_embedding(const Weights& weights, const T5Config& config) {
  const Weights tied = weights["encoder"]["embed_tokens"];
  const bool has_tied = tied.has("weight");
  return {!weights["shared"].has("weight") && has_tied ? tied : weights["shared"], config.vocab_size, config.d_model};
}

// T5's logarithmic buckets of relative position, both directions: half for keys before the query, half for after.
int64_t relative_position_bucket(int64_t relative_position, int64_t num_buckets, int64_t max_distance) {
  const int64_t half = num_buckets / 2, exact = half / 2;
  const int64_t offset = relative_position > 0 ? half : 0;
  const int64_t distance = std::abs(relative_position);
  if (distance < exact) return offset + distance;
  const float ratio = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact)));
  const int64_t large = exact + static_cast<int64_t>(ratio * static_cast<float>(half - exact));
  return offset + std::min(large, half - 1);
}

}  // namespace

ClipLayer::ClipLayer(const Weights& weights, const ClipConfig& config)
    : num_heads(config.num_attention_heads),
      layer_norm1(weights["layer_norm1"], config.hidden_size, config.layer_norm_eps),
      layer_norm2(weights["layer_norm2"], config.hidden_size, config.layer_norm_eps),
      q_proj(weights["self_attn"]["q_proj"], config.hidden_size, config.hidden_size),
      k_proj(weights["self_attn"]["k_proj"], config.hidden_size, config.hidden_size),
      v_proj(weights["self_attn"]["v_proj"], config.hidden_size, config.hidden_size),
      out_proj(weights["self_attn"]["out_proj"], config.hidden_size, config.hidden_size),
      fc1(weights["mlp"]["fc1"], config.hidden_size, config.intermediate_size),
      fc2(weights["mlp"]["fc2"], config.intermediate_size, config.hidden_size) {}

at::Tensor ClipLayer::operator()(const at::Tensor& input) const {
  throw_if_stopped();
  const TraceSpan span("ClipLayer");
  const auto heads = [&](const at::Tensor& x) { return x.unflatten(-1, {num_heads, -1}).transpose(1, 2); };
  const at::Tensor normed = layer_norm1(input);
  const at::Tensor attended = nn::attention(heads(q_proj(normed)), heads(k_proj(normed)), heads(v_proj(normed)),
                                            {.bias = {}, .causal = true, .scale = {}});  // [B, H, L, D]
  const at::Tensor x = input + out_proj(attended.transpose(1, 2).flatten(2));
  return x + fc2(quick_gelu(fc1(layer_norm2(x))));
}

ClipEncoder::ClipEncoder(const Weights& weights, const ClipConfig& config)
    : dtype(weights.dtype()),
      computes_in(computing_dtype(dtype, Work::kProduct, weights.kernel_device())),
      token_embedding(weights["text_model"]["embeddings"]["token_embedding"], config.vocab_size, config.hidden_size),
      position_embedding(weights["text_model"]["embeddings"]["position_embedding"], config.max_position_embeddings,
                         config.hidden_size),
      layers(bind_layers(weights["text_model"]["encoder"]["layers"], config)),
      final_layer_norm(weights["text_model"]["final_layer_norm"], config.hidden_size, config.layer_norm_eps) {
  // Some files keep a table of positions beside the weights; it carries no information.
  weights["text_model"]["embeddings"].has("position_ids");
  weights["text_model"].finish();
}

ClipEncoder::Output ClipEncoder::forward(const at::Tensor& ids) const {
  at::Tensor x = token_embedding(ids, computes_in) + position_embedding(at::arange(ids.size(1)), computes_in);
  for (const ClipLayer& layer : layers) x = layer(x);
  x = final_layer_norm(x).to(dtype);
  const at::Tensor end = ids.argmax(-1).to(x.device());  // the first of equals
  return {x, x.index({at::arange(ids.size(0), end.options()), end})};
}

T5Block::T5Block(const Weights& block, const T5Config& config) : T5Block(config, block["layer"]) {}

T5Block::T5Block(const T5Config& config, const Weights& layer)
    : num_heads(config.num_heads),
      attention_norm(layer[0]["layer_norm"], config.d_model, config.layer_norm_epsilon, "weight"),
      mlp_norm(layer[1]["layer_norm"], config.d_model, config.layer_norm_epsilon, "weight"),
      q(layer[0]["SelfAttention"]["q"], config.d_model, config.num_heads * config.d_kv, false),
      k(layer[0]["SelfAttention"]["k"], config.d_model, config.num_heads * config.d_kv, false),
      v(layer[0]["SelfAttention"]["v"], config.d_model, config.num_heads * config.d_kv, false),
      o(layer[0]["SelfAttention"]["o"], config.num_heads * config.d_kv, config.d_model, false),
      wi_0(layer[1]["DenseReluDense"]["wi_0"], config.d_model, config.d_ff, false),
      wi_1(layer[1]["DenseReluDense"]["wi_1"], config.d_model, config.d_ff, false),
      wo(layer[1]["DenseReluDense"]["wo"], config.d_ff, config.d_model, false) {}

at::Tensor T5Block::attend(const at::Tensor& x, const at::Tensor& bias) const {
  const auto heads = [&](const at::Tensor& y) { return y.unflatten(-1, {num_heads, -1}).transpose(1, 2); };
  // T5 does not scale its scores: the initialisation did.
  const at::Tensor attended =
      nn::attention(heads(q(x)), heads(k(x)), heads(v(x)), {.bias = bias, .causal = false, .scale = 1.0});
  return o(attended.transpose(1, 2).flatten(2));
}

at::Tensor T5Block::gated_mlp(const at::Tensor& x) const {
  const at::Tensor gate = at::gelu(wi_0(x), "tanh"), up = wi_1(x);
  // In float16 this product and the layer overflow: they run in float32 there.
  if (x.scalar_type() == at::kHalf) return wo(gate.to(at::kFloat) * up);
  return wo(gate * up);
}

at::Tensor T5Block::operator()(const at::Tensor& input, const at::Tensor& bias) const {
  throw_if_stopped();
  const TraceSpan span("T5Block");
  const at::ScalarType computes_in = bias.scalar_type();
  const at::Tensor x = input + attend(attention_norm(input).to(computes_in), bias);
  return x + gated_mlp(mlp_norm(x).to(computes_in));
}

T5Encoder::T5Encoder(const Weights& weights, const T5Config& config)
    : config(config),
      dtype(weights.dtype()),
      computes_in(computing_dtype(dtype, Work::kProduct, weights.kernel_device())),
      shared(bind_embedding(weights, config)),
      relative_attention_bias(weights["encoder"]["block"][0]["layer"][0]["SelfAttention"]["relative_attention_bias"],
                              config.relative_attention_num_buckets, config.num_heads),
      blocks(weights["encoder"]["block"], config.num_layers, config),
      final_layer_norm(weights["encoder"]["final_layer_norm"], config.d_model, config.layer_norm_epsilon, "weight") {
  weights["encoder"].finish();
}

at::Tensor T5Encoder::position_bias(int64_t length) const {
  const at::Tensor buckets = at::empty({length, length}, at::kLong);
  auto bucket = buckets.accessor<int64_t, 2>();
  for (int64_t query = 0; query < length; ++query) {
    for (int64_t key = 0; key < length; ++key) {
      bucket[query][key] = relative_position_bucket(key - query, config.relative_attention_num_buckets,
                                                    config.relative_attention_max_distance);
    }
  }
  return relative_attention_bias(buckets, computes_in).permute({2, 0, 1}).unsqueeze(0).contiguous();
}

at::Tensor T5Encoder::forward(const at::Tensor& ids) const {
  // In float16 the sum over the blocks overflows.
  at::Tensor x = shared(ids, computes_in == at::kHalf ? at::kFloat : computes_in);
  const at::Tensor bias = position_bias(ids.size(1));
  for (size_t i = 0; i < blocks.size(); ++i) x = blocks[i](x, bias);
  return final_layer_norm(x).to(dtype);
}

int64_t forward_bytes(const T5Config& config, int64_t length, at::ScalarType dtype) {
  // The stream, normalised, q, k, v, and attention's output, some of them twice for a moment; three of the MLP's inner
  // width; the bias, once more for each block's kernel.
  const int64_t rows = 10 * config.d_model + 3 * config.d_ff;
  const int64_t bias = 2 * config.num_heads * length;
  const int64_t wide_weight = dtype == at::kHalf ? config.d_model * config.d_ff * int64_t{sizeof(float)} : 0;  // of wo
  return length * (rows + bias) * static_cast<int64_t>(c10::elementSize(dtype)) + wide_weight;
}

}  // namespace opensora::text
