// The official pipeline runs: what was asked for, as a request and as a command line.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "opensora/generate.h"

namespace opensora::test {

struct PipelineCase {
  std::string name;
  int forwards;        // of the video transformer
  int image_forwards;  // of FLUX
};

// All of them, with the forwards that cannot be saved.
const std::vector<PipelineCase>& pipeline_cases();

// The request that `name` is a run of. References that the case holds as frames are written into `folder`, and so are
// the output and the saved tensors ("tensors.safetensors").
GenerateRequest pipeline_request(const std::string& name, const std::filesystem::path& folder);

// The same as arguments of the program.
std::vector<std::string> pipeline_arguments(const std::string& name, const std::filesystem::path& folder);

// Compares what was saved in `folder` with the case, within the stated tolerances; adds test failures.
void expect_official_tensors(const std::string& name, const std::filesystem::path& folder);

}  // namespace opensora::test
