#include "core/byte_size.h"

#include <fmt/format.h>

#include <cstdio>

#include "opensora/error.h"

namespace opensora {
namespace {

constexpr double kKiB = 1024.0, kMiB = 1024.0 * kKiB, kGiB = 1024.0 * kMiB;

}  // namespace

int64_t parse_bytes(const std::string& flag, const std::string& text) {
  double value = 0;
  char unit[4] = "", rest = 0;
  const int fields = std::sscanf(text.c_str(), "%lf %3[A-Za-z]%c", &value, unit, &rest);
  const std::string name = unit;
  const double factor = name.empty() || name == "B"    ? 1
                        : name == "MiB" || name == "M" ? kMiB
                        : name == "GiB" || name == "G" ? kGiB
                        : name == "MB"                 ? 1e6
                        : name == "GB"                 ? 1e9
                                                       : 0;
  if (fields < 1 || fields > 2 || factor == 0 || !(value * factor >= 1) || value * factor > 1e18) {
    throw UsageError(flag + ": expected an amount such as 24GiB, 24GB or 512MiB, found \"" + text + "\"");
  }
  return static_cast<int64_t>(value * factor);
}

std::string format_bytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= kGiB) return fmt::format("{:.2f} GiB", value / kGiB);
  if (value >= kMiB) return fmt::format("{:.0f} MiB", value / kMiB);
  return fmt::format("{:.0f} KiB", value / kKiB);
}

}  // namespace opensora
