// Step caching: at some steps the transformer does not run, and the velocity is forecast.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace opensora {

// Which steps run the transformer. At most one of the two is given; neither: all steps do.
struct CachePolicy {
  // Pairs: a guided step runs it where the velocity will have changed by so much since the last that did, relative to
  // itself. A step between guided ones, the second of its pair, never does.
  std::optional<double> threshold;
  std::vector<int64_t> steps;  // these, from 1, increasing; 1 is among them

  bool is_on() const { return threshold.has_value() || !steps.empty(); }
};

inline constexpr double kDefaultCacheThreshold = 0.04, kMaxCacheThreshold = 1;
inline constexpr double kMaxSpeed = 10;

// "none", "pairs", "pairs:0.05" or "steps:1-6,8,12,50"; nullopt for what is none of these.
std::optional<CachePolicy> parse_cache(std::string_view text);

// The same text again; "pairs" has its threshold, and steps in a row are joined.
std::string cache_text(const CachePolicy& policy);

}  // namespace opensora
