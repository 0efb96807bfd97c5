#include "sampling/sampler.h"

#include "diffusion/packing.h"
#include "opensora/error.h"

namespace opensora::sampling {
namespace {

struct Branch {
  const TextEmbedding* text;
  bool conditioned;
  std::vector<double> weights;  // one, or one a latent frame
};

// What stays the same over all steps, on the model's device.
struct Session {
  const diffusion::MMDiT& model;
  diffusion::RotaryEmbedding pe;
  TextEmbedding prompt, negative;
  at::Tensor cond;      // [1, N, C + p * p], packed; undefined: text alone
  at::Tensor guidance;  // [1], or undefined
  int64_t latent_frames;
};

std::vector<Branch> needed_branches(const SamplerInput& input, const Session& session, int64_t step) {
  if (session.guidance.defined()) return {{&session.prompt, false, {1}}};
  const BranchWeights weights =
      branch_weights(input.guidance, {.step = step,
                                      .steps = static_cast<int64_t>(input.timesteps.size()) - 1,
                                      .latent_frames = session.latent_frames,
                                      .has_condition = session.cond.defined()});
  std::vector<Branch> branches;
  if (is_needed(weights.prompt)) branches.push_back({&session.prompt, true, weights.prompt});
  if (is_needed(weights.negative)) branches.push_back({&session.negative, true, weights.negative});
  if (is_needed(weights.unconditional)) branches.push_back({&session.negative, false, weights.unconditional});
  return branches;
}

// v [1, N, C] times one weight, or one a latent frame.
at::Tensor scaled(const at::Tensor& v, const std::vector<double>& weights) {
  if (weights.size() == 1) return v * weights.front();
  const auto frames = static_cast<int64_t>(weights.size());
  const at::Tensor by_frame = at::tensor(weights, at::kFloat).to(v.device()).view({1, frames, 1, 1});
  return (v.view({1, frames, -1, v.size(2)}) * by_frame).view_as(v);
}

// The guided velocity at time t: [1, N, C], float32.
at::Tensor guided_velocity(const Session& session, const at::Tensor& img, float t,
                           const std::vector<Branch>& branches) {
  const at::Tensor time = at::full({1}, t, img.options());
  at::Tensor velocity;
  for (const Branch& branch : branches) {
    const diffusion::MMDiTInput input{.img = img,
                                      .txt = branch.text->txt,
                                      .y_vec = branch.text->vec,
                                      .timesteps = time,
                                      .cond = branch.conditioned ? session.cond : at::Tensor(),
                                      .guidance = session.guidance};
    const at::Tensor v = scaled(session.model.forward(input, session.pe).to(at::kFloat).contiguous(), branch.weights);
    velocity = velocity.defined() ? velocity + v : v;
  }
  return velocity;
}

void check_finite(const at::Tensor& latent, int64_t step, int64_t steps) {
  const at::Tensor finite = at::isfinite(latent).all();
  if (finite.is_meta() || finite.item<bool>()) return;
  throw NumericError("the latent is not finite after step " + std::to_string(step) + " of " + std::to_string(steps) +
                     "; try --dtype bf16 or fp32, or check the checkpoint");
}

// [1, N, C * p * p] -> as `noise`: [1, C, T, H, W].
at::Tensor unpacked(const at::Tensor& img, const at::Tensor& noise, int64_t patch) {
  return diffusion::unpack(img, noise.size(2), noise.size(3) / patch, noise.size(4) / patch, patch);
}

Session make_session(const diffusion::MMDiT& model, const SamplerInput& input, at::Device device) {
  const int64_t patch = model.config.patch_size, frames = input.noise.size(2);
  const at::Tensor ids =
      at::cat({diffusion::text_ids(input.prompt.txt.size(1)),
               diffusion::image_ids(frames, input.noise.size(3) / patch, input.noise.size(4) / patch)});
  Session session{.model = model,
                  .pe = diffusion::rotary_embedding(ids.to(device), model.config),
                  .prompt = input.prompt.to(device, model.dtype),
                  .negative = input.negative.to(device, model.dtype),
                  .cond = {},
                  .guidance = {},
                  .latent_frames = frames};
  if (input.condition.defined()) session.cond = diffusion::pack(input.condition.to(device, model.dtype), patch);
  if (input.distilled_guidance) {
    session.guidance = at::full({1}, *input.distilled_guidance, at::TensorOptions().dtype(at::kFloat).device(device));
  }
  return session;
}

}  // namespace

TextEmbedding TextEmbedding::to(at::Device device, at::ScalarType dtype) const {
  if (!txt.defined()) return {};
  return {txt.to(device, dtype), vec.to(device, dtype)};
}

SamplerResult sample(const diffusion::MMDiT& model, const SamplerInput& input, at::Device device) {
  const int64_t patch = model.config.patch_size;
  const Session session = make_session(model, input, device);

  SamplerResult result;
  at::Tensor img = diffusion::pack(input.noise.to(device), patch);  // [1, N, C]
  const int64_t steps = static_cast<int64_t>(input.timesteps.size()) - 1;
  for (int64_t i = 0; i < steps; ++i) {
    const std::vector<Branch> branches = needed_branches(input, session, i);
    const double dt = static_cast<double>(input.timesteps[i + 1]) - static_cast<double>(input.timesteps[i]);
    const at::Tensor velocity = guided_velocity(session, img, input.timesteps[i], branches);
    const at::Tensor noisy = input.on_estimate ? img : at::Tensor();
    img = img + dt * velocity;
    result.forwards += static_cast<int64_t>(branches.size());
    check_finite(img, i + 1, steps);
    if (input.on_estimate) {
      const double t = input.timesteps[i];
      input.on_estimate(i + 1, steps, [&] { return unpacked(noisy - t * velocity, input.noise, patch); });
    }
    if (input.on_step) input.on_step(i + 1, steps);
  }
  result.latent = unpacked(img, input.noise, patch);
  return result;
}

}  // namespace opensora::sampling
