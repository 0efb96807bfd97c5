// A run without its data: every model bound to names and shapes, run on the meta device, stage by stage as generate()
// does it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "opensora/plan.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

// One entry a model, in the order of the run, then the writing. peak_bytes is that of tensors and weights alone: what
// the process holds besides (libraries, the video encoder) is not in it. `device` is the one to plan for, which need
// not be there; it goes before the plan's. `free_bytes`: what it has, for --offload auto.
std::vector<StagePlan> simulate(const GenerateRequest& request, const Plan& plan, at::Device device,
                                std::optional<int64_t> free_bytes);

}  // namespace opensora::pipeline
