// A run without data: all models are bound to names and shapes, and run on the meta device, stage by stage as in a run.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/meta_device.h"
#include "opensora/plan.h"
#include "run/job.h"

namespace opensora::tools {

// What a MetaDevice has counted.
struct Counts {
  FlopCount flops;
  ByteCount bytes;
};
// Adds it to a stage, so many times.
void add_counts(StagePlan& stage, const Counts& counts, double times);

// One entry per model, in the order of a run, and one for the writing. peak_bytes covers tensors and weights alone, and
// not what the process holds besides (libraries, the video encoder). `device` is the one to plan for, in place of the
// job's; this machine need not have it. `room` is what a run may allocate there, for --offload auto
// (models::room_in()); nullopt: not known. `published` says that there are no weights here: names, shapes and dtypes
// are those of the published files.
std::vector<StagePlan> simulate(const run::Job& job, at::Device device, std::optional<int64_t> room, bool published);

}  // namespace opensora::tools
