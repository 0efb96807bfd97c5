// A run without its data: every model bound to names and shapes, run on the meta device, stage by stage as generate()
// does it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "opensora/plan.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

struct SimulationOptions {
  at::Device device = at::kCPU;       // to plan for, which need not be there; it goes before the plan's
  std::optional<int64_t> free_bytes;  // what it has, for --offload auto
  bool published = false;             // no weights are here: names, shapes and dtypes are the published files'
};

// One entry a model, in the order of the run, then the writing. peak_bytes is that of tensors and weights alone: what
// the process holds besides (libraries, the video encoder) is not in it.
std::vector<StagePlan> simulate(const GenerateRequest& request, const Plan& plan, const SimulationOptions& options);

}  // namespace opensora::pipeline
