// Whether videos are decoded and written while the next ones are sampled.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "models/model_set.h"
#include "run/job.h"

namespace opensora::run {

struct Overlap {
  bool is_on = false;
  int64_t decoding_bytes = 0;  // on a GPU, beside the sampling: the most of all jobs
};

// What `wanted` (--overlap: "on", "off", "auto") comes to. "auto" is on where jobs share a GPU and the decoder fits
// beside the transformer into what that has left. Never for one job alone, with previews, or on a GPU where nothing is
// to be sampled. `options` are the run's. Throws UsageError for another word; on a GPU binds decoder and transformer to
// the names and shapes in their files, and throws CheckpointError as ModelSet does.
Overlap settle_overlap(std::span<const Job> jobs, const std::string& wanted, const models::SetOptions& options);

// What decoding the job's video takes on the device of `options`, the decoder's weights included: it runs on the meta
// device, as in a plan.
int64_t decoding_bytes(const Job& job, const models::SetOptions& options);

}  // namespace opensora::run
