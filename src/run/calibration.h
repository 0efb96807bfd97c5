// The table of `opensora calibrate`: a JSON file that says how a model's velocity changes over time.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "run/job.h"
#include "sampling/step_cache.h"

namespace opensora::run {

// Of runs like `job`: what it was measured with stands beside the table, for people.
nlohmann::ordered_json calibration_json(const Job& job, const sampling::ChangeCurve& changes);

// Throws UsageError that names the file and what is wrong with it.
sampling::ChangeCurve read_calibration(const std::filesystem::path& file);

}  // namespace opensora::run
