// What a request comes to, settled and checked before any weight is loaded.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>

#include "opensora/generate.h"
#include "sampling/condition.h"
#include "sampling/noise.h"
#include "sampling/schedule.h"
#include "sampling/size.h"

namespace opensora::pipeline {

struct Plan {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  uint64_t seed = 0;
  sampling::Size size;  // pixels, rounded up to what the model can make
  sampling::LatentShape latent;
  sampling::ScheduleOptions schedule;
  sampling::ConditionType condition = sampling::ConditionType::kT2V;
  bool makes_picture = false;  // FLUX first
  sampling::Size picture_size;
  sampling::LatentShape picture_latent;
  sampling::ScheduleOptions picture_schedule;
  std::filesystem::path output;
  std::filesystem::path picture;  // FLUX's picture beside the video; empty: none, or it is the output
  std::string prompt;             // with suffixes

  int64_t image_tokens() const { return schedule.tokens_per_frame * latent.frames; }
};

// The prompt is checked, the number of references too; reading those comes later.
// Throws UsageError, DeviceError, OutputError.
Plan make_plan(const GenerateRequest& request);

}  // namespace opensora::pipeline
