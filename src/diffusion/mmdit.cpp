#include "diffusion/mmdit.h"

#include <algorithm>

#include "core/cpu_features.h"
#include "opensora/process.h"

namespace opensora::diffusion {
namespace {

constexpr int64_t kTimestepDim = 256;

}  // namespace

MMDiT::MMDiT(const Weights& weights, const MMDiTConfig& config)
    : config(config),
      dtype(weights.dtype()),
      computes_in(computing_dtype(dtype, Work::kProduct, weights.kernel_device())),
      layout(mlp_layout(weights.kernel_device())),
      // Those who quantise for others often quantise what leads into the blocks and out of them, too.
      img_in(nn::with_exact_products({weights["img_in"], config.in_channels, config.hidden_size})),
      txt_in(nn::with_exact_products({weights["txt_in"], config.context_in_dim, config.hidden_size})),
      time_in(weights["time_in"].on_host(), kTimestepDim, config.hidden_size),
      vector_in(weights["vector_in"].on_host(), config.vec_in_dim, config.hidden_size),
      double_blocks(weights["double_blocks"], config.depth, config),
      single_blocks(weights["single_blocks"], config.depth_single_blocks, config),
      final_layer(weights["final_layer"], config.hidden_size, config.in_channels),
      modulation_layers(weights, config) {
  if (config.guidance_embed) guidance_in.emplace(weights["guidance_in"].on_host(), kTimestepDim, config.hidden_size);
  if (config.cond_embed) {
    const int64_t channels = config.in_channels + config.patch_size * config.patch_size;
    cond_in = nn::with_exact_products({weights["cond_in"], channels, config.hidden_size});
  }
  weights.finish();
}

void MMDiT::embed_image(const at::Tensor& out, const at::Tensor& img, const at::Tensor& cond,
                        const at::Tensor& scratch) const {
  const double scale = stream_scale(computes_in);
  img_in.into(out, img.to(computes_in), scale);
  if (!cond_in) return;
  if (cond.defined()) {
    cond_in->into(scratch, cond.to(computes_in), scale);
    out.add_(scratch);
  } else {
    out.add_(cond_in->bias.to(computes_in), scale);  // what a zero condition leaves
  }
}

at::Tensor MMDiT::embed_text(const at::Tensor& txt) const { return txt_in(txt.to(computes_in)); }

at::Tensor MMDiT::embed_vector(const MMDiTInput& input) const {
  at::Tensor vec = time_in(timestep_embedding(input.timesteps, kTimestepDim).to(computes_in));
  if (guidance_in) vec = vec + (*guidance_in)(timestep_embedding(input.guidance, kTimestepDim).to(computes_in));
  return vec + vector_in(input.y_vec.to(computes_in));
}

Modulations MMDiT::modulations(const at::Tensor& vec) const { return modulation_layers(vec); }

Workspace MMDiT::workspace(int64_t batch, int64_t tokens, at::Device device) const {
  return {config, batch, tokens, at::TensorOptions().dtype(computes_in).device(device), layout};
}

at::Tensor MMDiT::forward(const MMDiTStep& step, const RotaryEmbedding& pe, const Workspace& work) const {
  const int64_t text_length = step.txt.size(1);
  const at::Tensor img = work.x.slice(1, text_length), img_normed = work.normed.slice(1, text_length);
  work.x.slice(1, 0, text_length).copy_(step.txt).mul_(work.scale());
  embed_image(img, step.img, step.cond, img_normed);
  const auto layer = [&](size_t index) {
    return nn::AttentionLayer{.fp8 = step.fp8_attention, .index = static_cast<int64_t>(index)};
  };
  for (size_t i = 0; i < double_blocks.size(); ++i) {
    throw_if_stopped();
    double_blocks[i](work, text_length, step.modulations.double_blocks[i], pe, layer(i));
  }
  for (size_t i = 0; i < single_blocks.size(); ++i) {
    throw_if_stopped();
    single_blocks[i](work, step.modulations.single_blocks[i], pe, layer(double_blocks.size() + i));
  }
  return final_layer(img, img_normed, step.modulations.final_layer).to(dtype);
}

at::Tensor MMDiT::forward(const MMDiTInput& input, const RotaryEmbedding& pe) const {
  const Modulations mods = modulations(embed_vector(input));
  const at::Tensor txt = embed_text(input.txt);
  const Workspace work = workspace(input.img.size(0), input.img.size(1) + txt.size(1), input.img.device());
  return forward(MMDiTStep{.img = input.img, .txt = txt, .cond = input.cond, .modulations = mods}, pe, work);
}

int64_t forward_bytes(const MMDiTConfig& config, int64_t tokens, at::ScalarType computes_in, at::Device device) {
  constexpr int64_t kFloat = sizeof(float);
  const auto width = static_cast<int64_t>(c10::elementSize(computes_in));
  const Workspace work(config, 1, tokens, at::TensorOptions(computes_in).device(at::kMeta), mlp_layout(device));
  const int64_t rotary = tokens * config.head_dim() * kFloat;  // a cosine and a sine for each pair
  // Beside attention's output or, before the first forward, a modulation's weight on its way from the host.
  const int64_t passing = std::max(tokens, 6 * config.hidden_size) * config.hidden_size * width;
  const int64_t modulations =
      kModulationRows * (12 * config.depth + 3 * config.depth_single_blocks + 2) * config.hidden_size * width;
  // The latent before and after a step, the velocity, one branch's, and what makes one of the other.
  const int64_t latents = 6 * tokens * config.in_channels * kFloat;
  return work.nbytes() + rotary + passing + modulations + latents;
}

}  // namespace opensora::diffusion
