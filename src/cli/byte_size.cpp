#include "cli/byte_size.h"

#include <cstdio>

#include "opensora/error.h"

namespace opensora::cli {

int64_t parse_bytes(const std::string& flag, const std::string& text) {
  constexpr double kMiB = 1024.0 * 1024, kGiB = 1024 * kMiB;
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

}  // namespace opensora::cli
