#include "text/clip_encoder.h"

#include "core/cpu_features.h"
#include "core/trace.h"
#include "nn/attention.h"
#include "opensora/stop.h"

namespace opensora::text {
namespace {

at::Tensor quick_gelu(const at::Tensor& x) { return x * at::sigmoid(1.702 * x); }

std::vector<ClipLayer> bind_layers(const Weights& weights, const ClipConfig& config) {
  std::vector<ClipLayer> layers;
  layers.reserve(static_cast<size_t>(config.num_hidden_layers));
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) layers.emplace_back(weights[i], config);
  return layers;
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

}  // namespace opensora::text
