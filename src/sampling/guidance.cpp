#include "sampling/guidance.h"

namespace opensora::sampling {

double oscillating_scale(double scale, int64_t step, bool oscillate) {
  constexpr int64_t kFirstOscillatingStep = 10;
  return oscillate && step >= kFirstOscillatingStep && step % 2 == 1 ? 1.0 : scale;
}

BranchWeights branch_weights(const GuidanceOptions& options, int64_t step) {
  const double scale = oscillating_scale(options.text, step, options.text_osci);
  return {.prompt = scale, .negative = 1 - scale};
}

}  // namespace opensora::sampling
