#include "sampling/schedule.h"

#include <ATen/ATen.h>

#include <cmath>

namespace opensora::sampling {

double estimate_flow_shift(int64_t tokens_per_frame, int64_t latent_frames) {
  constexpr double kTokens0 = 256, kShift0 = 1, kTokens1 = 4096, kShift1 = 3;
  const double slope = (kShift1 - kShift0) / (kTokens1 - kTokens0);
  const double spatial = slope * static_cast<double>(tokens_per_frame) + (kShift0 - slope * kTokens0);
  return spatial * std::sqrt(static_cast<double>(latent_frames));
}

std::vector<float> timesteps(const ScheduleOptions& options) {
  // In tensors of float32, as the official code computes them: the same steps give the same bits.
  at::Tensor t = at::linspace(1, 0, options.num_steps + 1, at::kFloat);
  if (options.shift) {
    const double alpha =
        options.flow_shift.value_or(estimate_flow_shift(options.tokens_per_frame, options.latent_frames));
    t = alpha * t / (1 + (alpha - 1) * t);
  }
  t = t.contiguous();
  return {t.const_data_ptr<float>(), t.const_data_ptr<float>() + t.numel()};
}

}  // namespace opensora::sampling
