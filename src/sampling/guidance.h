// Classifier-free guidance: which forwards a step needs and how they are mixed.
#pragma once

#include <cstdint>

namespace opensora::sampling {

struct GuidanceOptions {
  double text = 7.5;      // scale of the prompt against the negative prompt; 1 leaves the prompt alone
  bool text_osci = true;  // from step 10 on, every odd step uses 1
};

// The scale that `step` (from 0) uses.
double oscillating_scale(double scale, int64_t step, bool oscillate);

// The velocity as a weighted sum: v = prompt * v(prompt) + negative * v(negative prompt).
//
// A branch of weight zero is not run. The official code always runs three: with a zero condition (text to video) its
// third, the negative prompt without condition, equals the second, so the image guidance cancels out.
struct BranchWeights {
  double prompt = 1;
  double negative = 0;

  int forwards() const { return (prompt != 0) + (negative != 0); }
};
BranchWeights branch_weights(const GuidanceOptions& options, int64_t step);

}  // namespace opensora::sampling
