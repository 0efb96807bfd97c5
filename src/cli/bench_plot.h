// Cost against work, drawn.
#pragma once

#include <string>
#include <vector>

#include "opensora/bench.h"

namespace opensora::cli {

// Bars of letters: of each point the FLOPs in a second, so that equal bars mean a cost in proportion to the work.
std::string scaling_chart(const std::vector<ScalingPoint>& points);

// SVG, both axes logarithmic: of each quantity and stage a line, time against FLOPs, both relative to its first point;
// dashed, a cost in proportion.
std::string scaling_plot(const std::vector<ScalingPoint>& points);

}  // namespace opensora::cli
