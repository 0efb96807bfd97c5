// The MMDiT flow-matching transformer of Open-Sora 2.0 and FLUX.1 (one struct, two layouts of weights).
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "core/weights.h"
#include "diffusion/blocks.h"
#include "opensora/config.h"

namespace opensora::diffusion {

// One forward's input. B is the batch, N the image tokens, L the text tokens.
struct MMDiTInput {
  at::Tensor img;        // [B, N, in_channels], the packed noisy latent
  at::Tensor txt;        // [B, L, context_in_dim], T5's output
  at::Tensor y_vec;      // [B, vec_in_dim], CLIP's pooled output
  at::Tensor timesteps;  // [B], float32, 1 = noise, 0 = video
  at::Tensor cond;       // [B, N, in_channels + patch_size^2], packed mask and masked latent; undefined: all zero
  at::Tensor guidance;   // [B], float32, only with guidance_embed
};

struct MMDiT {
  MMDiTConfig config;
  at::ScalarType dtype;  // of the activations
  nn::Linear img_in, txt_in;
  MLPEmbedder time_in, vector_in;
  std::optional<MLPEmbedder> guidance_in;
  std::optional<nn::Linear> cond_in;
  std::vector<DoubleStreamBlock> double_blocks;
  std::vector<SingleStreamBlock> single_blocks;
  LastLayer final_layer;

  // Binds the whole model; throws CheckpointError that lists all that is missing or mis-shaped.
  MMDiT(const Weights& weights, const MMDiTConfig& config);

  // The velocity: [B, N, in_channels], in the model's dtype. `pe` covers L + N positions, text first.
  at::Tensor forward(const MMDiTInput& input, const RotaryEmbedding& pe) const;

  // forward's first part: the image stream and the conditioning vector.
  at::Tensor embed_image(const MMDiTInput& input) const;   // [B, N, C]
  at::Tensor embed_vector(const MMDiTInput& input) const;  // [B, C]
};

}  // namespace opensora::diffusion
