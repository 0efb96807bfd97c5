#include "sampling/guidance.h"

#include <algorithm>

namespace opensora::sampling {
namespace {

// The `index`-th of `count` values from `first` to `last`.
double evenly_spaced(double first, double last, int64_t count, int64_t index) {
  return count == 1 ? first : first + (last - first) * static_cast<double>(index) / static_cast<double>(count - 1);
}

// One value, or one a latent frame.
std::vector<double> image_scales(const GuidanceOptions& options, const GuidanceStep& at) {
  const double scale = oscillating_scale(options.image, at.step, options.image_osci);
  if (!options.temporal_osci || scale <= 1) return {scale};
  const double highest = evenly_spaced(scale, 1, at.steps + 1, at.step);
  std::vector<double> scales;
  scales.reserve(static_cast<size_t>(at.latent_frames));
  for (int64_t t = 0; t < at.latent_frames; ++t) scales.push_back(evenly_spaced(1, highest, at.latent_frames, t));
  return scales;
}

}  // namespace

double oscillating_scale(double scale, int64_t step, bool oscillate) {
  constexpr int64_t kFirstOscillatingStep = 10;
  return oscillate && step >= kFirstOscillatingStep && step % 2 == 1 ? 1.0 : scale;
}

bool is_needed(const std::vector<double>& weights) {
  return std::any_of(weights.begin(), weights.end(), [](double weight) { return weight != 0; });
}

int BranchWeights::forwards() const {
  return int{is_needed(prompt)} + int{is_needed(negative)} + int{is_needed(unconditional)};
}

BranchWeights branch_weights(const GuidanceOptions& options, const GuidanceStep& at) {
  const double text = oscillating_scale(options.text, at.step, options.text_osci);
  if (!at.has_condition) return {.prompt = {text}, .negative = {1 - text}, .unconditional = {0}};
  BranchWeights weights{.prompt = {text}, .negative = {}, .unconditional = {}};
  for (const double image : image_scales(options, at)) {
    weights.negative.push_back(image - text);
    weights.unconditional.push_back(1 - image);
  }
  return weights;
}

}  // namespace opensora::sampling
