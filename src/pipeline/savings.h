// Ways to make a run need less memory.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "opensora/generate.h"

namespace opensora::pipeline {

struct Saving {
  std::vector<std::string> flags;  // to be added to the command line
  GenerateRequest request;         // with them
};

// In the order in which a user would want them: what only costs time (where weights are, tiles, bf16), then fewer
// frames, then a smaller video. `dtype` is what the run computes in. Some may not be possible: planning them throws
// UsageError.
std::vector<Saving> savings_of(const GenerateRequest& request, at::Device device, at::ScalarType dtype, PixelSize size);

}  // namespace opensora::pipeline
