#include "sampling/sampler.h"

#include "diffusion/packing.h"
#include "opensora/error.h"

namespace opensora::sampling {
namespace {

struct Branch {
  const TextEmbedding* text;
  double weight;
};

// The guided velocity at time t: [1, N, C], float32.
at::Tensor guided_velocity(const diffusion::MMDiT& model, const at::Tensor& img, const diffusion::RotaryEmbedding& pe,
                           float t, const std::vector<Branch>& branches) {
  const at::Tensor time = at::full({1}, t, img.options());
  at::Tensor velocity;
  for (const Branch& branch : branches) {
    const diffusion::MMDiTInput input{
        .img = img, .txt = branch.text->txt, .y_vec = branch.text->vec, .timesteps = time, .cond = {}, .guidance = {}};
    const at::Tensor v = model.forward(input, pe).to(at::kFloat) * branch.weight;
    velocity = velocity.defined() ? velocity + v : v;
  }
  return velocity;
}

std::vector<Branch> needed_branches(const SamplerInput& input, const TextEmbedding& prompt,
                                    const TextEmbedding& negative, int64_t step) {
  const BranchWeights weights = branch_weights(input.guidance, step);
  std::vector<Branch> branches;
  if (weights.prompt != 0) branches.push_back({&prompt, weights.prompt});
  if (weights.negative != 0) branches.push_back({&negative, weights.negative});
  return branches;
}

void check_finite(const at::Tensor& latent, int64_t step, int64_t steps) {
  if (at::isfinite(latent).all().item<bool>()) return;
  throw NumericError("the latent is not finite after step " + std::to_string(step) + " of " + std::to_string(steps) +
                     "; try --dtype bf16 or fp32, or check the checkpoint");
}

}  // namespace

TextEmbedding TextEmbedding::to(at::Device device, at::ScalarType dtype) const {
  return {txt.to(device, dtype), vec.to(device, dtype)};
}

SamplerResult sample(const diffusion::MMDiT& model, const SamplerInput& input, at::Device device) {
  const int64_t patch = model.config.patch_size;
  const int64_t frames = input.noise.size(2), rows = input.noise.size(3) / patch, cols = input.noise.size(4) / patch;
  const TextEmbedding prompt = input.prompt.to(device, model.dtype);
  const TextEmbedding negative = input.negative.to(device, model.dtype);

  const at::Tensor ids =
      at::cat({diffusion::text_ids(prompt.txt.size(1)), diffusion::image_ids(frames, rows, cols)}).to(device);
  const diffusion::RotaryEmbedding pe = diffusion::rotary_embedding(ids, model.config);

  SamplerResult result;
  at::Tensor img = diffusion::pack(input.noise.to(device), patch);  // [1, N, C]
  const int64_t steps = static_cast<int64_t>(input.timesteps.size()) - 1;
  for (int64_t i = 0; i < steps; ++i) {
    const std::vector<Branch> branches = needed_branches(input, prompt, negative, i);
    const double dt = static_cast<double>(input.timesteps[i + 1]) - static_cast<double>(input.timesteps[i]);
    img = img + dt * guided_velocity(model, img, pe, input.timesteps[i], branches);
    result.forwards += static_cast<int64_t>(branches.size());
    check_finite(img, i + 1, steps);
    if (input.on_step) input.on_step(i + 1, steps);
  }
  result.latent = diffusion::unpack(img, frames, rows, cols, patch);
  return result;
}

}  // namespace opensora::sampling
