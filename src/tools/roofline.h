// How long a stage takes, from what it computes and moves: the roofline model (Williams et al., 2009).
#pragma once

#include <optional>

#include "opensora/plan.h"
#include "run/forecast.h"
#include "tools/device_table.h"

namespace opensora::tools {

// What a device reaches, rather than its peaks.
struct Roofline {
  double products = 1, attention = 1, convolutions = 1;  // FLOP/s
  double memory = 1;                                     // bytes/s of what operators read and write
  double operator_seconds = 0;                           // of the host, to call an operator
  bool is_asynchronous = false;  // the host calls the next operators while the device computes; else it waits
  std::optional<double> transfer = {}, file = {};  // bytes/s to the device, and of a disk; nullopt: neither takes time
};

// Of a GPU, by the table's figures and stated shares of them. `half`: computes in bf16 or fp16.
Roofline roofline_of(const GpuFigures& gpu, bool half);
// Of this CPU, by trials of its kernels (run::measure_rates) and of its memory.
Roofline measured_roofline(const run::Rates& rates);

// A class of operators takes as long as its FLOPs or its bytes, whichever takes longer. Streamed blocks come meanwhile,
// so that the slower of the two counts; a whole model comes before, while its file is read.
double compute_seconds(const Roofline& device, const StagePlan& stage);
double load_seconds(const Roofline& device, const StagePlan& stage);

// Sets the seconds of all stages, and of the run.
void add_seconds(const Roofline& device, RunPlan& run);

}  // namespace opensora::tools
