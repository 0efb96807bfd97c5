// Seconds by stage, as results print them.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace opensora::batch {

// In order, rounded to milliseconds, with their "total".
inline nlohmann::ordered_json stage_seconds(const std::vector<std::pair<std::string, double>>& seconds) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  const auto milliseconds = [](double value) { return std::round(value * 1000) / 1000; };
  double total = 0;
  for (const auto& [stage, value] : seconds) {
    object[stage] = milliseconds(value);
    total += value;
  }
  object["total"] = milliseconds(total);
  return object;
}

}  // namespace opensora::batch
