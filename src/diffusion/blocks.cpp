#include "diffusion/blocks.h"

#include <cmath>

#include "core/trace.h"
#include "nn/fused.h"

namespace opensora::diffusion {
namespace {

constexpr double kNormEps = 1e-6;

// For a norm over the stream, which is scaled.
double stream_eps(const at::Tensor& x) {
  const double scale = stream_scale(x.scalar_type());
  return kNormEps * scale * scale;
}

std::optional<nn::Linear> linear_if(bool wanted, const Weights& weights, const char* name, int64_t in, int64_t out,
                                    bool bias) {
  if (!wanted) return std::nullopt;
  return nn::Linear(weights[name], in, out, bias);
}

// [B, L, C]
at::Tensor attention(const QKV& x, const nn::AttentionLayer& attend) {
  const at::Tensor q = x.q.transpose(1, 2);  // [B, H, L, D]
  return attend(q, x.k.transpose(1, 2), x.v.transpose(1, 2)).transpose(1, 2).flatten(2);
}

void modulate(const at::Tensor& out, const at::Tensor& x, const Modulation& mod) {
  nn::modulated_layer_norm(out, x, mod.shift, mod.scale, stream_eps(x));
}

}  // namespace

QKV QKV::tokens(int64_t first, int64_t length) const {
  return {fused.defined() ? fused.narrow(1, first, length) : at::Tensor(), q.narrow(1, first, length),
          k.narrow(1, first, length), v.narrow(1, first, length)};
}

MlpLayout mlp_layout(at::Device kernel_device) { return kernel_device.is_cpu() ? kCpuLayout : kAcceleratorLayout; }

double stream_scale(at::ScalarType dtype) { return dtype == at::kHalf ? 1.0 / 64 : 1.0; }

Workspace::Workspace(const MMDiTConfig& config, int64_t batch, int64_t tokens, const at::TensorOptions& options,
                     const MlpLayout& layout)
    : layout(layout),
      x(at::empty({batch, tokens, config.hidden_size}, options)),
      normed(at::empty_like(x)),
      qkv(at::empty({3 * x.numel()}, options)),
      hidden(at::empty(
          {batch * std::min(tokens, layout.tokens) * (config.mlp_hidden() + (layout.joins ? config.hidden_size : 0))},
          options)) {
  nn::has_gelu_product(options.device());  // tried now, as a forward may be recorded
}

int64_t Workspace::nbytes() const {
  return static_cast<int64_t>(x.nbytes() + normed.nbytes() + qkv.nbytes() + hidden.nbytes());
}

QKV Workspace::split_qkv(int64_t num_heads, bool fused) const {
  const int64_t batch = x.size(0), tokens = x.size(1), width = x.size(2);
  const std::vector<int64_t> shape = {batch, tokens, num_heads, width / num_heads};
  if (!fused) {
    const std::vector<at::Tensor> parts = qkv.chunk(3);
    return {{}, parts[0].view(shape), parts[1].view(shape), parts[2].view(shape)};
  }
  const at::Tensor all = qkv.view({batch, tokens, 3 * width});
  const std::vector<at::Tensor> parts = all.unflatten(-1, {3, num_heads, -1}).unbind(2);
  return {all, parts[0], parts[1], parts[2]};
}

at::Tensor Workspace::hidden_as(int64_t tokens, int64_t width) const {
  const int64_t batch = x.size(0);
  return hidden.narrow(0, 0, batch * tokens * width).view({batch, tokens, width});
}

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

QKNorm::QKNorm(const Weights& weights, const MMDiTConfig& config)
    : query_norm(weights["query_norm"], config.head_dim(), kNormEps, "scale"),
      key_norm(weights["key_norm"], config.head_dim(), kNormEps, "scale") {}

void QKNorm::operator()(const QKV& qkv, const RotaryEmbedding& pe) const {
  nn::rms_norm_rope(qkv.q, qkv.q, query_norm.scale.to(qkv.q.scalar_type()), pe, query_norm.eps);
  nn::rms_norm_rope(qkv.k, qkv.k, key_norm.scale.to(qkv.k.scalar_type()), pe, key_norm.eps);
}

SelfAttention::SelfAttention(const Weights& weights, const MMDiTConfig& config)
    : qkv(linear_if(config.fused_qkv, weights, "qkv", config.hidden_size, 3 * config.hidden_size, config.qkv_bias)),
      q_proj(linear_if(!config.fused_qkv, weights, "q_proj", config.hidden_size, config.hidden_size, config.qkv_bias)),
      k_proj(linear_if(!config.fused_qkv, weights, "k_proj", config.hidden_size, config.hidden_size, config.qkv_bias)),
      v_proj(linear_if(!config.fused_qkv, weights, "v_proj", config.hidden_size, config.hidden_size, config.qkv_bias)),
      norm(weights["norm"], config),
      proj(weights["proj"], config.hidden_size, config.hidden_size) {}

void SelfAttention::operator()(const QKV& out, const at::Tensor& x, const RotaryEmbedding& pe,
                               nn::WeightBuffer& weights) const {
  if (qkv) {
    qkv->into(out.fused, x, weights);
  } else {
    q_proj->into(out.q.flatten(2), x, weights);
    k_proj->into(out.k.flatten(2), x, weights);
    v_proj->into(out.v.flatten(2), x, weights);
  }
  norm(out, pe);
}

MLP::MLP(const Weights& weights, const MMDiTConfig& config)
    : in_layer(weights[0], config.hidden_size, config.mlp_hidden()),
      out_layer(weights[2], config.mlp_hidden(), config.hidden_size) {}

void MLP::operator()(const at::Tensor& x, const Workspace& work) const {
  const nn::Linear in = in_layer.converted_for(x, *work.weights);
  const nn::Linear out = out_layer.converted_for(x, *work.second_weights);
  for_token_chunks(x.size(1), work.layout, [&](int64_t first, int64_t length) {
    const at::Tensor tokens = x.narrow(1, first, length);
    const at::Tensor hidden = work.hidden_as(length, in.out_features());
    in.gelu_into(hidden, tokens);
    out.into(tokens, hidden, work.scale());
  });
}

DoubleStreamBlock::Stream::Stream(const Weights& block, const std::string& name, const MMDiTConfig& config)
    : attn(block[name + "_attn"], config), mlp(block[name + "_mlp"], config) {}

DoubleStreamBlock::DoubleStreamBlock(const Weights& weights, const MMDiTConfig& config)
    : num_heads(config.num_heads),
      hidden_size(config.hidden_size),
      fused_qkv(config.fused_qkv),
      img(weights, "img", config),
      txt(weights, "txt", config) {}

void DoubleStreamBlock::operator()(const Workspace& work, int64_t text_length, const PerStream<at::Tensor>& mods,
                                   const RotaryEmbedding& pe, const nn::AttentionLayer& attend) const {
  const TraceSpan span("DoubleStreamBlock");
  const QKV qkv = work.split_qkv(num_heads, fused_qkv);
  const int64_t image_length = work.x.size(1) - text_length;
  const auto enter = [&](const Stream& stream, const at::Tensor& rows, int64_t first, int64_t length) {
    const at::Tensor normed = work.normed.narrow(1, first, length);
    modulate(normed, work.x.narrow(1, first, length), split_modulations(rows, hidden_size)[0]);
    stream.attn(qkv.tokens(first, length), normed, pe.slice(first, length), *work.weights);
  };
  enter(txt, mods.txt, 0, text_length);
  enter(img, mods.img, text_length, image_length);

  const at::Tensor attended = attention(qkv, attend);  // [B, L+N, C]

  const auto leave = [&](const Stream& stream, const at::Tensor& rows, int64_t first, int64_t length) {
    const std::vector<Modulation> modulations = split_modulations(rows, hidden_size);
    const at::Tensor x = work.x.narrow(1, first, length), y = work.normed.narrow(1, first, length);
    stream.attn.proj.into(y, attended.narrow(1, first, length), *work.weights, work.scale());
    nn::add_gated(x, modulations[0].gate, y);
    modulate(y, x, modulations[1]);
    stream.mlp(y, work);
    nn::add_gated(x, modulations[1].gate, y);
  };
  leave(txt, mods.txt, 0, text_length);
  leave(img, mods.img, text_length, image_length);
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
      norm(weights["norm"], config) {}

// The MLP's part of a matrix that also makes q, k and v, or v alone.
nn::Linear SingleStreamBlock::mlp_in() const {
  return linear1 ? linear1->outputs(3 * hidden_size, mlp_hidden) : v_mlp->outputs(hidden_size, mlp_hidden);
}

void SingleStreamBlock::project(const QKV& out, const at::Tensor& x, nn::WeightBuffer& weights) const {
  if (linear1) return linear1->outputs(0, 3 * hidden_size).into(out.fused, x, weights);
  q_proj->into(out.q.flatten(2), x, weights);
  k_proj->into(out.k.flatten(2), x, weights);
  v_mlp->outputs(0, hidden_size).into(out.v.flatten(2), x, weights);
}

void SingleStreamBlock::operator()(const Workspace& work, const at::Tensor& mods, const RotaryEmbedding& pe,
                                   const nn::AttentionLayer& attend) const {
  const TraceSpan span("SingleStreamBlock");
  const Modulation mod = split_modulations(mods, hidden_size)[0];
  modulate(work.normed, work.x, mod);

  const QKV qkv = work.split_qkv(num_heads, linear1.has_value());
  project(qkv, work.normed, *work.weights);
  norm(qkv, pe);
  mlp_and_out(work, attention(qkv, attend));
  nn::add_gated(work.x, mod.gate, work.normed);
}

// attended [B, L+N, C]; work.normed holds the MLP's input and then the block's output.
void SingleStreamBlock::mlp_and_out(const Workspace& work, const at::Tensor& attended) const {
  const nn::Linear in = mlp_in().converted_for(work.x, *work.weights);
  const nn::Linear out = linear2.converted_for(work.x, *work.second_weights);
  for_token_chunks(work.x.size(1), work.layout, [&](int64_t first, int64_t length) {
    const at::Tensor tokens = work.normed.narrow(1, first, length);
    const at::Tensor attended_tokens = attended.narrow(1, first, length);
    if (!work.layout.joins) {
      const at::Tensor mlp = work.hidden_as(length, mlp_hidden);
      in.gelu_into(mlp, tokens);
      out.inputs(0, hidden_size).into(tokens, attended_tokens, work.scale());
      out.inputs(hidden_size, mlp_hidden).add_into(tokens, mlp, work.scale());
      return;
    }
    const at::Tensor both = work.hidden_as(length, hidden_size + mlp_hidden);  // attention, then MLP
    both.narrow(2, 0, hidden_size).copy_(attended_tokens);
    in.gelu_into(both.narrow(2, hidden_size, mlp_hidden), tokens);
    out.into(tokens, both, work.scale());
  });
}

LastLayer::LastLayer(const Weights& weights, int64_t hidden_size, int64_t out_channels)
    : linear(nn::with_exact_products({weights["linear"], hidden_size, out_channels})) {}

at::Tensor LastLayer::operator()(const at::Tensor& x, const at::Tensor& normed, const at::Tensor& mods) const {
  const TraceSpan span("LastLayer");
  const std::vector<at::Tensor> parts = mods.unsqueeze(1).chunk(2, -1);
  nn::modulated_layer_norm(normed, x, parts[0], parts[1], stream_eps(x));
  return linear(normed);
}

}  // namespace opensora::diffusion
