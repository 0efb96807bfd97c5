// Classifier-free guidance: which forwards a step needs and how they are mixed.
#pragma once

#include <cstdint>
#include <vector>

namespace opensora::sampling {

// As it stands, no guidance: a configuration has the values that a model wants.
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

}  // namespace opensora::sampling
