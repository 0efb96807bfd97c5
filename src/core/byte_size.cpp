#include "core/byte_size.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "core/text.h"
#include "opensora/error.h"

namespace opensora {
namespace {

constexpr double kKiB = 1024.0, kMiB = 1024.0 * kKiB, kGiB = 1024.0 * kMiB, kTiB = 1024.0 * kGiB;

struct Unit {
  std::string_view name;
  double bytes;
};
constexpr std::array<Unit, 13> kUnits = {{{"", 1},
                                          {"B", 1},
                                          {"K", kKiB},
                                          {"KiB", kKiB},
                                          {"M", kMiB},
                                          {"MiB", kMiB},
                                          {"G", kGiB},
                                          {"GiB", kGiB},
                                          {"TiB", kTiB},
                                          {"kB", 1e3},
                                          {"MB", 1e6},
                                          {"GB", 1e9},
                                          {"TB", 1e12}}};

}  // namespace

int64_t parse_bytes(const std::string& flag, const std::string& text) {
  const std::string_view all = text;
  const size_t end = all.find_last_not_of("BKMGTiBk");
  const std::string_view unit = all.substr(end + 1), before = all.substr(0, end + 1);
  const std::string_view number = before.ends_with(' ') ? before.substr(0, before.size() - 1) : before;
  for (const Unit& known : kUnits) {
    const std::optional<double> value = known.name == unit ? parse_decimal(number) : std::nullopt;
    if (value && *value * known.bytes >= 1 && *value * known.bytes <= 1e18) {
      return static_cast<int64_t>(*value * known.bytes);
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

}  // namespace opensora
