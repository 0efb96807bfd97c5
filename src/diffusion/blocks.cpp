#include "diffusion/blocks.h"

#include <cmath>

#include "nn/attention.h"

namespace opensora::diffusion {
namespace {

constexpr double kNormEps = 1e-6;

std::optional<nn::Linear> linear_if(bool wanted, const Weights& weights, const char* name, int64_t in, int64_t out,
                                    bool bias) {
  if (!wanted) return std::nullopt;
  return nn::Linear(weights[name], in, out, bias);
}

at::Tensor split_heads(const at::Tensor& x, int64_t num_heads) {
  return x.unflatten(-1, {num_heads, -1});  // [B, L, C] -> [B, L, H, D]
}

// [B, L, 3C] -> q, k, v of [B, L, H, D]
QKV split_qkv(const at::Tensor& qkv, int64_t num_heads) {
  const std::vector<at::Tensor> parts = qkv.chunk(3, -1);
  return {split_heads(parts[0], num_heads), split_heads(parts[1], num_heads), split_heads(parts[2], num_heads)};
}

// [B, L, H, D] each -> [B, L, C]
at::Tensor rotary_attention(const QKV& x, const RotaryEmbedding& pe) {
  const at::Tensor q = apply_rope(x.q, pe).transpose(1, 2);  // [B, H, L, D]
  const at::Tensor k = apply_rope(x.k, pe).transpose(1, 2);
  return nn::attention(q, k, x.v.transpose(1, 2)).transpose(1, 2).flatten(2);
}

}  // namespace

at::Tensor timestep_embedding(const at::Tensor& t, int64_t dim) {
  constexpr double kMaxPeriod = 10000.0, kTimeFactor = 1000.0;
  const int64_t half = dim / 2;
  const at::Tensor steps = at::arange(half, at::TensorOptions().dtype(at::kFloat).device(t.device()));
  const at::Tensor freqs = at::exp(-std::log(kMaxPeriod) * steps / half);
  const at::Tensor args = (kTimeFactor * t.to(at::kFloat)).unsqueeze(1) * freqs;  // [B, dim/2]
  return at::cat({args.cos(), args.sin()}, -1);
}

MLPEmbedder::MLPEmbedder(const Weights& weights, int64_t in_dim, int64_t hidden_size)
    : in_layer(weights["in_layer"], in_dim, hidden_size), out_layer(weights["out_layer"], hidden_size, hidden_size) {}

at::Tensor MLPEmbedder::operator()(const at::Tensor& x) const { return out_layer(at::silu(in_layer(x))); }

at::Tensor Modulation::operator()(const at::Tensor& x) const {
  return (1 + scale) * nn::layer_norm(x, kNormEps) + shift;
}

ModulationLayer::ModulationLayer(const Weights& weights, int64_t hidden_size, int64_t count)
    : lin(weights["lin"], hidden_size, 3 * count * hidden_size), count(count) {}

std::vector<Modulation> ModulationLayer::operator()(const at::Tensor& vec) const {
  const std::vector<at::Tensor> parts = lin(at::silu(vec)).unsqueeze(1).chunk(3 * count, -1);
  std::vector<Modulation> modulations;
  for (size_t i = 0; i < parts.size(); i += 3) modulations.push_back({parts[i], parts[i + 1], parts[i + 2]});
  return modulations;
}

SelfAttention::SelfAttention(const Weights& weights, const MMDiTConfig& config)
    : num_heads(config.num_heads),
      qkv(linear_if(config.fused_qkv, weights, "qkv", config.hidden_size, 3 * config.hidden_size, config.qkv_bias)),
      q_proj(linear_if(!config.fused_qkv, weights, "q_proj", config.hidden_size, config.hidden_size, config.qkv_bias)),
      k_proj(linear_if(!config.fused_qkv, weights, "k_proj", config.hidden_size, config.hidden_size, config.qkv_bias)),
      v_proj(linear_if(!config.fused_qkv, weights, "v_proj", config.hidden_size, config.hidden_size, config.qkv_bias)),
      query_norm(weights["norm"]["query_norm"], config.head_dim(), kNormEps, "scale"),
      key_norm(weights["norm"]["key_norm"], config.head_dim(), kNormEps, "scale"),
      proj(weights["proj"], config.hidden_size, config.hidden_size) {}

QKV SelfAttention::operator()(const at::Tensor& x) const {
  QKV parts = qkv ? split_qkv((*qkv)(x), num_heads)
                  : QKV{split_heads((*q_proj)(x), num_heads), split_heads((*k_proj)(x), num_heads),
                        split_heads((*v_proj)(x), num_heads)};
  return {query_norm(parts.q), key_norm(parts.k), parts.v};
}

MLP::MLP(const Weights& weights, const MMDiTConfig& config)
    : in_layer(weights[0], config.hidden_size, config.mlp_hidden()),
      out_layer(weights[2], config.mlp_hidden(), config.hidden_size) {}

at::Tensor MLP::operator()(const at::Tensor& x) const { return out_layer(at::gelu(in_layer(x), "tanh")); }

DoubleStreamBlock::Stream::Stream(const Weights& block, const std::string& name, const MMDiTConfig& config)
    : mod(block[name + "_mod"], config.hidden_size, 2),
      attn(block[name + "_attn"], config),
      mlp(block[name + "_mlp"], config) {}

at::Tensor DoubleStreamBlock::Stream::update(const at::Tensor& x, const at::Tensor& attended,
                                             const std::vector<Modulation>& mods) const {
  const at::Tensor y = x + mods[0].gate * attn.proj(attended);
  return y + mods[1].gate * mlp(mods[1](y));
}

DoubleStreamBlock::DoubleStreamBlock(const Weights& weights, const MMDiTConfig& config)
    : img(weights, "img", config), txt(weights, "txt", config) {}

std::pair<at::Tensor, at::Tensor> DoubleStreamBlock::operator()(const at::Tensor& img_in, const at::Tensor& txt_in,
                                                                const at::Tensor& vec,
                                                                const RotaryEmbedding& pe) const {
  const std::vector<Modulation> img_mods = img.mod(vec), txt_mods = txt.mod(vec);
  const QKV i = img.attn(img_mods[0](img_in));
  const QKV t = txt.attn(txt_mods[0](txt_in));

  const QKV joint{at::cat({t.q, i.q}, 1), at::cat({t.k, i.k}, 1), at::cat({t.v, i.v}, 1)};
  const at::Tensor attended = rotary_attention(joint, pe);  // [B, L+N, C]

  const int64_t text_length = txt_in.size(1);
  return {img.update(img_in, attended.slice(1, text_length), img_mods),
          txt.update(txt_in, attended.slice(1, 0, text_length), txt_mods)};
}

SingleStreamBlock::SingleStreamBlock(const Weights& weights, const MMDiTConfig& config)
    : num_heads(config.num_heads),
      hidden_size(config.hidden_size),
      mlp_hidden(config.mlp_hidden()),
      linear1(linear_if(config.fused_qkv, weights, "linear1", hidden_size, 3 * hidden_size + mlp_hidden, true)),
      q_proj(linear_if(!config.fused_qkv, weights, "q_proj", hidden_size, hidden_size, true)),
      k_proj(linear_if(!config.fused_qkv, weights, "k_proj", hidden_size, hidden_size, true)),
      v_mlp(linear_if(!config.fused_qkv, weights, "v_mlp", hidden_size, hidden_size + mlp_hidden, true)),
      linear2(weights["linear2"], hidden_size + mlp_hidden, hidden_size),
      query_norm(weights["norm"]["query_norm"], config.head_dim(), kNormEps, "scale"),
      key_norm(weights["norm"]["key_norm"], config.head_dim(), kNormEps, "scale"),
      modulation(weights["modulation"], hidden_size, 1) {}

at::Tensor SingleStreamBlock::operator()(const at::Tensor& x, const at::Tensor& vec, const RotaryEmbedding& pe) const {
  const Modulation mod = modulation(vec)[0];
  const at::Tensor x_mod = mod(x);
  QKV parts;
  at::Tensor mlp;  // [B, L+N, mlp_hidden]
  if (linear1) {
    const std::vector<at::Tensor> out = (*linear1)(x_mod).split_with_sizes({3 * hidden_size, mlp_hidden}, -1);
    parts = split_qkv(out[0], num_heads);
    mlp = out[1];
  } else {
    const std::vector<at::Tensor> out = (*v_mlp)(x_mod).split_with_sizes({hidden_size, mlp_hidden}, -1);
    parts = {split_heads((*q_proj)(x_mod), num_heads), split_heads((*k_proj)(x_mod), num_heads),
             split_heads(out[0], num_heads)};
    mlp = out[1];
  }
  const at::Tensor attended = rotary_attention({query_norm(parts.q), key_norm(parts.k), parts.v}, pe);
  return x + mod.gate * linear2(at::cat({attended, at::gelu(mlp, "tanh")}, -1));
}

LastLayer::LastLayer(const Weights& weights, int64_t hidden_size, int64_t out_channels)
    : adaln_modulation(weights["adaLN_modulation"][1], hidden_size, 2 * hidden_size),
      linear(weights["linear"], hidden_size, out_channels) {}

at::Tensor LastLayer::operator()(const at::Tensor& x, const at::Tensor& vec) const {
  const std::vector<at::Tensor> parts = adaln_modulation(at::silu(vec)).unsqueeze(1).chunk(2, -1);
  return linear(Modulation{parts[0], parts[1], {}}(x));
}

}  // namespace opensora::diffusion
