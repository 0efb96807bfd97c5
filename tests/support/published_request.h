// A run of a published configuration, whose weights are not here: for plans.
#pragma once

#include <string>

#include "opensora/config.h"
#include "opensora/generate.h"

namespace opensora::test {

inline GenerateRequest published_request(const std::string& config) {
  GenerateRequest request;
  request.model_dir = bundled_configs_dir() / "demo";
  request.config = load_config(find_config(config));
  request.prompt = "x";
  request.output = "none.mp4";
  request.overwrite = true;
  return request;
}

}  // namespace opensora::test
