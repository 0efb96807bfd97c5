// What the time and the pooled text do to every block: shifts, scales and gates that do not depend on the video.
//
// Their layers hold 27 % of the model's weights and depend on so little that all steps' are computed before the first
// one, layer by layer: the weights stay on the host, as the checkpoint's file has them, and are read once a video.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "core/weights.h"
#include "nn/linear.h"
#include "opensora/config.h"

namespace opensora::diffusion {

// They are computed for as many steps at once as use so many times and texts.
constexpr int64_t kModulationRows = 128;

// (1 + scale) * norm(x) + shift before a layer, gate after it.
struct Modulation {
  at::Tensor shift, scale, gate;  // [B, 1, C]
};

// The modulations side by side in `rows` [B, 3C], [B, 6C], …
std::vector<Modulation> split_modulations(const at::Tensor& rows, int64_t hidden_size);

// What a double block has for each of its streams.
template <typename T>
struct PerStream {
  T img, txt;
};

// All blocks' for R conditioning vectors.
struct Modulations {
  std::vector<PerStream<at::Tensor>> double_blocks;  // [R, 6C]: of the attention, then of the MLP
  std::vector<at::Tensor> single_blocks;             // [R, 3C]
  at::Tensor final_layer;                            // [R, 2C]: shift and scale

  Modulations rows(int64_t first, int64_t count) const;  // a view
};

// The layers that make them.
struct ModulationLayers {
  std::vector<PerStream<nn::Linear>> double_blocks;
  std::vector<nn::Linear> single_blocks;
  nn::Linear final_layer;

  ModulationLayers(const Weights& weights, const MMDiTConfig& config);
  Modulations operator()(const at::Tensor& vec) const;  // [R, C]
};

}  // namespace opensora::diffusion
