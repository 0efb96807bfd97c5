// Ways to make a run need less memory.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

#include "opensora/generate.h"

namespace opensora::tools {

// A flag, and what it does to a request.
struct Saving {
  std::string flag;  // to be added to the command line
  std::function<void(GenerateRequest&)> apply;
};
using Savings = std::vector<Saving>;  // together

GenerateRequest with_savings(GenerateRequest request, const Savings& savings);

// In the order in which a user would want them: what only costs time (where weights are, tiles, bf16), each with those
// before it; then fewer frames, then a smaller video. `dtype` is what the run computes in, `size` its video's. Some may
// not be possible: planning them throws UsageError.
std::vector<Savings> savings_of(const GenerateRequest& request, at::Device device, at::ScalarType dtype,
                                PixelSize size);

}  // namespace opensora::tools
