// The checks of opensora selftest.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "opensora/machine.h"

namespace opensora::tools {

struct Outcome {
  Verdict verdict = Verdict::kOk;
  std::string text;
};

struct SelfCheck {
  std::string topic, name;
  std::function<Outcome()> run;  // what it throws is a failure
};

// Whether the relative error of the whole tensor, |actual - expected| / |expected| in float64 on the CPU, is at most
// `limit`.
Outcome compare(const at::Tensor& actual, const at::Tensor& expected, double limit);
Outcome skipped(std::string why);

// The relative error that each dtype's rounding may cause.
struct Limits {
  double fp32, fp16, bf16;
  double of(at::ScalarType dtype) const { return dtype == at::kFloat ? fp32 : dtype == at::kHalf ? fp16 : bf16; }
};

// The bundled cases: `cases` and `ckpts` of tests/data/reference, beside a build tree or in an installation's
// share/opensora/selftest. Throws CheckpointError where there are none.
std::filesystem::path selftest_data_dir();

// The checks on `device`, in each of the dtypes.
using Dtypes = std::vector<at::ScalarType>;
std::vector<SelfCheck> golden_checks(at::Device device, const Dtypes& dtypes, const std::filesystem::path& data);
std::vector<SelfCheck> attention_checks(at::Device device, const Dtypes& dtypes);
// Checks our own code: fused kernels against the plain path, frames made on the device, graphs.
std::vector<SelfCheck> kernel_checks(at::Device device, const Dtypes& dtypes);
// The transformer's blocks and a convolution at the sizes of real runs (on the CPU small ones): right, and as fast and
// as large as a plan says.
std::vector<SelfCheck> size_checks(at::Device device, const Dtypes& dtypes);
std::vector<SelfCheck> speed_checks(at::Device device, const Dtypes& dtypes);

}  // namespace opensora::tools
