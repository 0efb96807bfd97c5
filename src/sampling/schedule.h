// The time steps of the flow: from 1 (noise) to 0 (video).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

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

// The estimate of alpha: 1 at 256 tokens a frame to 3 at 4096, linear and extrapolated, times sqrt(latent_frames).
double estimate_flow_shift(int64_t tokens_per_frame, int64_t latent_frames);

}  // namespace opensora::sampling
