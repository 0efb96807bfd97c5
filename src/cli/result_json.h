// A finished video as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "opensora/generate.h"

namespace opensora::cli {

nlohmann::ordered_json to_json(const GenerateResult& result);

// One line on stdout, at once: somebody may be waiting for it.
void print_json(const nlohmann::ordered_json& json);

}  // namespace opensora::cli
