// The MMDiT flow-matching transformer of Open-Sora 2.0 and FLUX.1 (one struct, two layouts of weights).
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "core/weights.h"
#include "diffusion/blocks.h"
#include "nn/block_list.h"
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

// The same for a loop: what does not depend on the latent is computed before it.
struct MMDiTStep {
  at::Tensor img;                             // [B, N, in_channels]
  at::Tensor txt;                             // [B, L, C], embed_text()'s
  at::Tensor cond;                            // as above
  const Modulations& modulations;             // of B rows, modulations()'s
  nn::Fp8Attention* fp8_attention = nullptr;  // null: attention is exact
};

struct MMDiT {
  MMDiTConfig config;
  at::ScalarType dtype, computes_in;  // of results, and of the activations before them
  MlpLayout layout;                   // of workspace()
  nn::Linear img_in, txt_in;
  MLPEmbedder time_in, vector_in;
  std::optional<MLPEmbedder> guidance_in;
  std::optional<nn::Linear> cond_in;
  nn::BlockList<DoubleStreamBlock> double_blocks;
  nn::BlockList<SingleStreamBlock> single_blocks;
  LastLayer final_layer;
  ModulationLayers modulation_layers;

  // Binds the whole model; throws CheckpointError that lists all that is missing or mis-shaped.
  MMDiT(const Weights& weights, const MMDiTConfig& config);

  // The velocity: [B, N, in_channels], in the model's dtype. `pe` covers L + N positions, text first; `work` is of
  // their number and B.
  at::Tensor forward(const MMDiTStep& step, const RotaryEmbedding& pe, const Workspace& work) const;
  // One forward by itself.
  at::Tensor forward(const MMDiTInput& input, const RotaryEmbedding& pe) const;

  // forward's parts.
  at::Tensor embed_text(const at::Tensor& txt) const;      // [B, L, C]
  at::Tensor embed_vector(const MMDiTInput& input) const;  // [B, C], of its timesteps, y_vec and guidance
  Modulations modulations(const at::Tensor& vec) const;    // of as many rows as embed_vector() gave
  // The image stream into `out` [B, N, C]; what is in `scratch`, which is as large, is lost.
  void embed_image(const at::Tensor& out, const at::Tensor& img, const at::Tensor& cond,
                   const at::Tensor& scratch) const;
  Workspace workspace(int64_t batch, int64_t tokens, at::Device device) const;
};

// About what a forward of a sampling over so many tokens, of text and image, takes beside the model's weights, in
// bytes: the workspace, rotary tables, attention's output, the steps' modulations, the latent and its velocities.
// `device`: whose kernels run.
int64_t forward_bytes(const MMDiTConfig& config, int64_t tokens, at::ScalarType computes_in, at::Device device);

}  // namespace opensora::diffusion
