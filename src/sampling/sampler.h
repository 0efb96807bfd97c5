// From noise to latent: the noise, the time steps, classifier-free guidance, and the loop over them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/graph.h"
#include "diffusion/mmdit.h"
#include "sampling/noise.h"
#include "sampling/size.h"
#include "sampling/solver.h"
#include "sampling/step_cache.h"

namespace opensora::sampling {

struct ScheduleOptions {
  int64_t num_steps = 50;
  int64_t tokens_per_frame = 0;  // image tokens in one latent frame
  int64_t latent_frames = 1;
  bool shift = true;                 // false: evenly spaced
  std::optional<double> flow_shift;  // alpha; nullopt: estimated from the size
};

// num_steps + 1 values, float32, the first 1 and the last 0, shifted towards 1 by alpha * t / (1 + (alpha - 1) * t).
std::vector<float> timesteps(const ScheduleOptions& options);

// What becomes of a time before it is embedded, of which the official code computes the sinusoids of 1000 t.
enum class TimestepRounding {
  kNone,
  kOfficial,  // t is rounded to the model's dtype: 0.725 in bf16 embeds 726.6. So does the compiled official code
  kEager,     // 1000 t is rounded, too: 728. So does the official code where torch.compile does nothing
};

// Of "none", "official", "eager". Throws UsageError for another word.
TimestepRounding parse_timestep_rounding(const std::string& word);

// The times [B], float32, as they are embedded in a run of that dtype. Also for the distilled guidance.
at::Tensor rounded_times(const at::Tensor& t, TimestepRounding rounding, at::ScalarType dtype);

// The estimate of alpha: 1 at 256 tokens a frame to 3 at 4096, linear and extrapolated, times sqrt(latent_frames).
double estimate_flow_shift(int64_t tokens_per_frame, int64_t latent_frames);

// Classifier-free guidance. The defaults are none at all: a configuration has the values that a model wants.
struct GuidanceOptions {
  double text = 1;          // scale of the prompt against the negative prompt; 1 leaves the prompt alone
  double image = 1;         // scale of the condition against none; without a condition it has no effect
  bool text_osci = false;   // from step 10 on, every odd step uses 1 for the text
  bool image_osci = false;  // likewise for the image
  // Image conditions only: the image scale grows over the latent frames and falls over the steps.
  bool temporal_osci = false;
};

// The scale that `step` (from 0) uses.
double oscillating_scale(double scale, int64_t step, bool oscillate);

// The velocity as a weighted sum of three branches: the prompt with the condition, the negative prompt with it, and the
// negative prompt without it. With the text scale t and the image scale i it is
//
//   v = v_none + i (v_negative - v_none) + t (v_prompt - v_negative).
//
// A branch of weight zero is not run; the official code always runs three. A weight is one number, or one a latent
// frame.
struct BranchWeights {
  std::vector<double> prompt, negative, unconditional;

  int forwards() const;
};

struct GuidanceStep {
  int64_t step = 0;  // from 0
  int64_t steps = 1;
  int64_t latent_frames = 1;
  bool has_condition = false;  // without one the third branch equals the second
};
BranchWeights branch_weights(const GuidanceOptions& options, const GuidanceStep& at);

// True if any weight is not zero: the branch must be run.
bool is_needed(const std::vector<double>& weights);

// A prompt as the transformer takes it.
struct TextEmbedding {
  at::Tensor txt;  // [1, L, context_in_dim], T5
  at::Tensor vec;  // [1, vec_in_dim], CLIP

  TextEmbedding to(at::Device device, at::ScalarType dtype) const;
};

// How far a sampling has come: what is needed to go on where it ended.
struct SamplerState {
  int64_t step = 0;        // the next one, from 0, or the one in which it is
  int64_t evaluation = 0;  // of the velocity, likewise
  at::Tensor img;          // [1, N, C], packed, float32, on the model's device; undefined: not begun
  SolverHistory history;
  int64_t forwards = 0;
  std::vector<int64_t> computed;  // steps, from 1, that ran the transformer
  CacheState cache;
};

struct SamplerInput {
  at::Tensor noise;                // [1, C, T, H, W], float32
  TextEmbedding prompt, negative;  // negative may be undefined where no step needs it
  at::Tensor condition;            // [1, 1 + C, T, H, W], as make_condition() makes it; undefined: text alone
  std::vector<float> timesteps;    // as timesteps() makes them
  GuidanceOptions guidance;
  SolverKind solver = SolverKind::kEuler;
  CachePolicy cache = {};
  std::optional<double> distilled_guidance;  // a model with a guidance embedding takes this, and runs one branch
  // Called after each step (1-based) with the number of steps; may throw to stop the run.
  std::function<void(int64_t step, int64_t steps)> on_step;
  // Called before on_step with what makes the estimate of the clean latent, x - t * v: [1, C, T, H, W], float32, on the
  // model's device. It is only made when asked for, while the call lasts. Does not change the result.
  std::function<void(int64_t step, int64_t steps, const std::function<at::Tensor()>& clean)> on_estimate = {};
  // Sampling begins at it, and keeps it up to date after each step; null: from the noise.
  SamplerState* state = nullptr;
  GraphRecorder* graphs = nullptr;  // records the forwards, so that they are replayed; null: none are
  GraphTrial graph_trial = {};      // asked for each kind of forward; empty: all are recorded
  TimestepRounding timestep_rounding = TimestepRounding::kNone;
  nn::Fp8Attention* fp8_attention = nullptr;  // of the steps that it is for; null: attention is exact in all
};

struct SamplerResult {
  at::Tensor latent;              // [1, C, T, H, W], float32, on the model's device
  int64_t forwards = 0;           // of the transformer
  std::vector<int64_t> computed;  // steps, from 1, that ran it
  int64_t replayed = 0;           // of those: by a graph
  bool dropped_graphs = false;
  bool needless_graphs = false;  // the trial was against one
};

// Euler's solver does x += (t_next - t) * v for each step. The latent stays in float32 between steps; branches run one
// at a time. Throws NumericError at the first step whose latent is not finite.
SamplerResult sample(const diffusion::MMDiT& model, const SamplerInput& input, at::Device device);

}  // namespace opensora::sampling
