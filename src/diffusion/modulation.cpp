#include "diffusion/modulation.h"

namespace opensora::diffusion {
namespace {

// All of a block depends on modulations, and they are made once a video: nothing is to be gained by rounding.
nn::Linear modulation_layer(const Weights& weights, int64_t in_features, int64_t out_features) {
  return nn::with_exact_products({weights.on_host(), in_features, out_features});
}

}  // namespace

std::vector<Modulation> split_modulations(const at::Tensor& rows, int64_t hidden_size) {
  const std::vector<at::Tensor> parts = rows.unsqueeze(1).split(hidden_size, -1);
  std::vector<Modulation> modulations;
  for (size_t i = 0; i < parts.size(); i += 3) modulations.push_back({parts[i], parts[i + 1], parts[i + 2]});
  return modulations;
}

Modulations Modulations::rows(int64_t first, int64_t count) const {
  const auto narrowed = [&](const at::Tensor& all) { return all.narrow(0, first, count); };
  Modulations some;
  for (const auto& block : double_blocks) {
    some.double_blocks.push_back({narrowed(block.img), narrowed(block.txt)});
  }
  for (const at::Tensor& block : single_blocks) some.single_blocks.push_back(narrowed(block));
  some.final_layer = narrowed(final_layer);
  return some;
}

ModulationLayers::ModulationLayers(const Weights& weights, const MMDiTConfig& config)
    : final_layer(
          modulation_layer(weights["final_layer"]["adaLN_modulation"][1], config.hidden_size, 2 * config.hidden_size)) {
  const auto layer = [&](const Weights& of, int64_t count) {
    return modulation_layer(of["lin"], config.hidden_size, 3 * count * config.hidden_size);
  };
  for (int64_t i = 0; i < config.depth; ++i) {
    const Weights block = weights["double_blocks"][i];
    double_blocks.push_back({layer(block["img_mod"], 2), layer(block["txt_mod"], 2)});
  }
  for (int64_t i = 0; i < config.depth_single_blocks; ++i) {
    single_blocks.push_back(layer(weights["single_blocks"][i]["modulation"], 1));
  }
}

Modulations ModulationLayers::operator()(const at::Tensor& vec) const {
  const at::Tensor activated = at::silu(vec);
  nn::WeightBuffer weights;
  const auto run = [&](const nn::Linear& layer) { return layer.converted_for(activated, weights)(activated); };
  Modulations all;
  for (const auto& block : double_blocks) {
    all.double_blocks.push_back({run(block.img), run(block.txt)});
  }
  for (const nn::Linear& block : single_blocks) all.single_blocks.push_back(run(block));
  all.final_layer = run(final_layer);
  return all;
}

}  // namespace opensora::diffusion
