// The Euler loop: noise to latent.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <optional>
#include <vector>

#include "core/graph.h"
#include "diffusion/mmdit.h"
#include "sampling/guidance.h"

namespace opensora::sampling {

// A prompt as the transformer takes it.
struct TextEmbedding {
  at::Tensor txt;  // [1, L, context_in_dim], T5
  at::Tensor vec;  // [1, vec_in_dim], CLIP

  TextEmbedding to(at::Device device, at::ScalarType dtype) const;
};

struct SamplerInput {
  at::Tensor noise;                // [1, C, T, H, W], float32
  TextEmbedding prompt, negative;  // negative may be undefined where no step needs it
  at::Tensor condition;            // [1, 1 + C, T, H, W], as make_condition() makes it; undefined: text alone
  std::vector<float> timesteps;    // as timesteps() makes them
  GuidanceOptions guidance;
  std::optional<double> distilled_guidance;  // a model with a guidance embedding takes this, and runs one branch
  // Called after each step (1-based) with the number of steps; may throw to stop the run.
  std::function<void(int64_t step, int64_t steps)> on_step;
  // Called before on_step with what makes the estimate of the clean latent, x - t * v: [1, C, T, H, W], float32, on the
  // model's device. It is only made when asked for, while the call lasts. Does not change the result.
  std::function<void(int64_t step, int64_t steps, const std::function<at::Tensor()>& clean)> on_estimate = {};
  GraphRecorder* graphs = nullptr;  // records the forwards, so that they are replayed; null: none are
};

// The transformer's modulations are computed for as many steps at once as use so many times and texts.
constexpr int64_t kModulationRows = 128;

struct SamplerResult {
  at::Tensor latent;     // [1, C, T, H, W], float32, on the model's device
  int64_t forwards = 0;  // of the transformer
  int64_t replayed = 0;  // of those: by a graph
  bool dropped_graphs = false;
};

// x += (t_next - t) * v for each step. The latent stays in float32 between steps; branches run one at a time.
// Throws NumericError at the first step whose latent is not finite.
SamplerResult sample(const diffusion::MMDiT& model, const SamplerInput& input, at::Device device);

}  // namespace opensora::sampling
