#include "diffusion/mmdit.h"

namespace opensora::diffusion {
namespace {

constexpr int64_t kTimestepDim = 256;

template <typename Block>
std::vector<Block> bind_blocks(const Weights& weights, int64_t count, const MMDiTConfig& config) {
  std::vector<Block> blocks;
  blocks.reserve(count);
  for (int64_t i = 0; i < count; ++i) blocks.emplace_back(weights[i], config);
  return blocks;
}

}  // namespace

MMDiT::MMDiT(const Weights& weights, const MMDiTConfig& config)
    : config(config),
      dtype(weights.dtype()),
      img_in(weights["img_in"], config.in_channels, config.hidden_size),
      txt_in(weights["txt_in"], config.context_in_dim, config.hidden_size),
      time_in(weights["time_in"], kTimestepDim, config.hidden_size),
      vector_in(weights["vector_in"], config.vec_in_dim, config.hidden_size),
      double_blocks(bind_blocks<DoubleStreamBlock>(weights["double_blocks"], config.depth, config)),
      single_blocks(bind_blocks<SingleStreamBlock>(weights["single_blocks"], config.depth_single_blocks, config)),
      final_layer(weights["final_layer"], config.hidden_size, config.in_channels) {
  if (config.guidance_embed) guidance_in.emplace(weights["guidance_in"], kTimestepDim, config.hidden_size);
  if (config.cond_embed) {
    cond_in.emplace(weights["cond_in"], config.in_channels + config.patch_size * config.patch_size, config.hidden_size);
  }
  weights.finish();
}

at::Tensor MMDiT::embed_image(const MMDiTInput& input) const {
  at::Tensor img = img_in(input.img.to(dtype));
  if (!cond_in) return img;
  // A zero condition leaves the layer's bias alone.
  return img + (input.cond.defined() ? (*cond_in)(input.cond.to(dtype)) : cond_in->bias.to(dtype));
}

at::Tensor MMDiT::embed_vector(const MMDiTInput& input) const {
  at::Tensor vec = time_in(timestep_embedding(input.timesteps, kTimestepDim).to(dtype));
  if (guidance_in) vec = vec + (*guidance_in)(timestep_embedding(input.guidance, kTimestepDim).to(dtype));
  return vec + vector_in(input.y_vec.to(dtype));
}

at::Tensor MMDiT::forward(const MMDiTInput& input, const RotaryEmbedding& pe) const {
  const at::Tensor vec = embed_vector(input);    // [B, C]
  at::Tensor img = embed_image(input);           // [B, N, C]
  at::Tensor txt = txt_in(input.txt.to(dtype));  // [B, L, C]
  for (const DoubleStreamBlock& block : double_blocks) std::tie(img, txt) = block(img, txt, vec, pe);

  at::Tensor x = at::cat({txt, img}, 1);  // [B, L+N, C]
  for (const SingleStreamBlock& block : single_blocks) x = block(x, vec, pe);
  return final_layer(x.slice(1, txt.size(1)), vec);  // [B, N, in_channels]
}

}  // namespace opensora::diffusion
