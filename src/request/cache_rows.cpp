// The table's rows of step caching.
#include "opensora/cache.h"
#include "opensora/error.h"
#include "request/rows.h"

namespace opensora::request {
namespace {

std::string checked_cache(const Given& given) {
  if (const std::optional<CachePolicy> policy = parse_cache(given.text)) return cache_text(*policy);
  throw UsageError(
      given.name +
      fmt::format(": expected none, pairs, pairs:THRESHOLD with up to {:g}, or steps:LIST from 1 on such as "
                  "steps:1-6,8,12,50, found \"{}\"{}",
                  kMaxCacheThreshold, given.text, given.hint));
}

}  // namespace

void append_cache(Rows& table) {
  Parameter cache = text("--cache",
                         "Forecast the velocity where it changes little, in place of running the transformer: none; "
                         "pairs[:THRESHOLD] (0.04: 2.4 times fewer forwards, 1 % of error on the demo's latents); "
                         "steps:LIST, all steps but these",
                         &GenerateRequest::cache);
  cache.set = [](Settings& s, const Given& given) { s.request.cache = checked_cache(given); };
  Parameter speed = real(
      "--speed", "So many times fewer forwards, with a --cache whose steps are fixed before the run; 1: all of them",
      {1, kMaxSpeed}, &GenerateRequest::speed);
  Parameter calibration =
      path("--calibration", "FILE", "Table of opensora calibrate by which --speed chooses its steps",
           &GenerateRequest::calibration);
  speed.get = calibration.get = nullptr;  // what follows is told as the cache
  append(table, "Sampling", Scope::kContent,
         {std::move(cache)
              .also_by({"speed", "calibration"})
              .replacing({"speed", "calibration"}, {})
              .showing_default()
              .unless_default(),
          std::move(speed).excluding({"cache"}).replacing({"cache"}, {}), std::move(calibration).needing("speed")});
}

}  // namespace opensora::request
