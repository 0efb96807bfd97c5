// How a model's velocity changes over time, measured once, so that cached runs have fixed steps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>
#include <vector>

#include "opensora/generate.h"

namespace opensora {

struct CalibrateRequest {
  // What is sampled, each exactly, with a seed of its own or a random one; all with the models and the device of the
  // first. FLUX makes no picture. Their `output` is not written.
  std::vector<GenerateRequest> runs;
  std::filesystem::path output;  // the table, JSON
  bool overwrite = false;
};

struct CalibrateResult {
  std::filesystem::path output;
  int64_t forwards = 0;  // of all runs
  // Time from 1 downwards, and how far the velocity has changed until then, relative to itself: the mean of the runs.
  std::vector<std::pair<double, double>> changes;
};

// Throws as generate() does. UsageError for runs of different steps or sizes, or whose guidance oscillates
// differently: their times are not the same.
CalibrateResult calibrate(const CalibrateRequest& request, const ProgressCallback& progress = {});

}  // namespace opensora
