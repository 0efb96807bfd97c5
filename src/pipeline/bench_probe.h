// What the machine can do: the two kernels that nearly all of a run's FLOPs are in, alone.
#pragma once

#include <vector>

#include "opensora/bench.h"
#include "pipeline/bench_work.h"

namespace opensora::pipeline {

// "matmul", then "attention", both at the transformer's sizes with all of a video's tokens, in what
// the run's dtype is computed in, by the median of the runs that fit into a second, or three.
std::vector<BenchProbe> run_probes(const BenchSetup& setup, const ProgressCallback& progress);

}  // namespace opensora::pipeline
