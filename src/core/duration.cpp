#include "core/duration.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <ctime>

namespace opensora {
namespace {

std::tm local_time(std::time_t time) {
  std::tm parts{};
  localtime_r(&time, &parts);
  return parts;
}

}  // namespace

std::string format_duration(double seconds) {
  if (seconds < 100) return fmt::format("{:.0f} s", std::max(1.0, std::round(seconds)));
  const auto minutes = static_cast<int64_t>(std::round(seconds / 60));
  if (minutes < 100) return fmt::format("{} min", minutes);
  const int64_t hours = minutes / 60;
  if (hours < 10) return fmt::format("{} h {} min", hours, minutes % 60);
  if (hours < 100) return fmt::format("{} h", hours);
  return fmt::format("{} days", hours / 24);
}

std::string local_time_in(double seconds) {
  constexpr double kLongest = 365.0 * 86400;
  const std::time_t now = std::time(nullptr);
  const std::tm today = local_time(now), then = local_time(now + static_cast<std::time_t>(std::min(seconds, kLongest)));
  const bool is_today = today.tm_yday == then.tm_yday && today.tm_year == then.tm_year;
  const bool is_soon = seconds < 6.0 * 86400;
  char text[64];
  std::strftime(text, sizeof text, is_today ? "%H:%M" : is_soon ? "%a %H:%M" : "%Y-%m-%d", &then);
  return text;
}

}  // namespace opensora
