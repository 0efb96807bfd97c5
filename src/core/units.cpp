#include "core/units.h"

#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <string_view>
#include <utility>

#include "core/text.h"
#include "opensora/error.h"

namespace opensora {
namespace {

constexpr double kKiB = 1024.0, kMiB = 1024.0 * kKiB, kGiB = 1024.0 * kMiB, kTiB = 1024.0 * kGiB;

using Unit = std::pair<std::string_view, double>;  // its name and its size in bytes
constexpr Unit kUnits[] = {{"", 1},       {"B", 1},    {"K", kKiB},   {"KiB", kKiB}, {"M", kMiB},
                           {"MiB", kMiB}, {"G", kGiB}, {"GiB", kGiB}, {"TiB", kTiB}, {"kB", 1e3},
                           {"MB", 1e6},   {"GB", 1e9}, {"TB", 1e12}};

}  // namespace

int64_t parse_bytes(const std::string& flag, const std::string& text) {
  const std::string_view all = text;
  const size_t end = all.find_last_not_of("BKMGTiBk");
  const std::string_view unit = all.substr(end + 1), before = all.substr(0, end + 1);
  const std::string_view number = before.ends_with(' ') ? before.substr(0, before.size() - 1) : before;
  for (const auto& [name, bytes] : kUnits) {
    const std::optional<double> value = name == unit ? parse_decimal(number) : std::nullopt;
    if (value && *value * bytes >= 1 && *value * bytes <= 1e18) {
      return static_cast<int64_t>(*value * bytes);
    }
  }
  throw UsageError(flag + ": expected an amount from 1 to 1e18 bytes, such as 24GiB, 24GB or 512MiB, found \"" + text +
                   "\"");
}

std::string format_bytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= kGiB) return fmt::format("{:.2f} GiB", value / kGiB);
  if (value >= kMiB) return fmt::format("{:.0f} MiB", value / kMiB);
  return fmt::format("{:.0f} KiB", value / kKiB);
}

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
