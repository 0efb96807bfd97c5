// How long work will take, from its FLOPs and what this machine's kernels do in a moment's trial.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "core/meta_device.h"
#include "opensora/config.h"
#include "pipeline/plan.h"

namespace opensora::pipeline {

// FLOPs a second of this CPU, alone on its cores.
struct Rates {
  double linear = 1, convolution = 1, attention = 1;

  double seconds(const FlopCount& flops) const;
};

enum class Trial {
  kSampling,  // the transformer's kernels; convolutions are not tried
  kAll,       // the autoencoder's too
};

// Runs each kind of kernel for some milliseconds, at the sizes of the configuration's models up to where the rates no
// longer depend on them. `tokens`: all that the transformer reads at once.
Rates measure_rates(const Config& config, int64_t tokens, at::ScalarType dtype, Trial trial);

// Of the steps of a video's sampling from `first` on.
FlopCount sampling_flops(const Config& config, const Plan& plan, int64_t first = 0);

}  // namespace opensora::pipeline
