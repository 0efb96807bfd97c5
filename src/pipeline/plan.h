// What a request comes to, settled and checked before any weight is loaded.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>

#include "opensora/generate.h"
#include "sampling/condition.h"
#include "sampling/guidance.h"
#include "sampling/noise.h"
#include "sampling/schedule.h"
#include "sampling/size.h"

namespace opensora::pipeline {

struct Plan {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  uint64_t seed = 0;
  PixelSize size;  // pixels, rounded up to what the model can make
  sampling::LatentShape latent_shape;
  sampling::ScheduleOptions schedule;
  sampling::ConditionType condition = sampling::ConditionType::kT2V;
  bool makes_picture = false;  // FLUX first
  PixelSize picture_size;
  sampling::LatentShape picture_latent;
  sampling::ScheduleOptions picture_schedule;
  std::filesystem::path output;
  std::filesystem::path latent;   // beside the video until that is finished
  std::filesystem::path picture;  // FLUX's picture beside the video; empty: none, or it is the output
  std::string prompt;             // with suffixes
  std::string metadata;           // the document that goes with the video, see metadata.h; empty: none

  int64_t image_tokens() const { return schedule.tokens_per_frame * latent_shape.frames; }
};

// The prompt is checked, the number of references too; reading those comes later. The files to be written are left
// open. Throws UsageError, DeviceError.
Plan make_plan(const GenerateRequest& request);

// Settles output, latent (unless it is given) and picture, and checks them; what is there already of the latter two is
// find_remains()' business. Throws UsageError for an extension that does not fit, OutputError.
void plan_output(const GenerateRequest& request, Plan& plan);

// The transformer's forwards in the steps from `first` on: not all steps have the same branches.
int64_t sampling_forwards(const Config& config, const Plan& plan, int64_t first = 0);

// How the sampler mixes its branches in a run with that condition.
sampling::GuidanceOptions guidance_options(const Config& config, sampling::ConditionType condition);

}  // namespace opensora::pipeline
