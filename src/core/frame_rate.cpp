#include "opensora/video.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/text.h"

namespace opensora {
namespace {

constexpr int64_t kMaxDenominator = 1'000'000;
constexpr int64_t kNtsc = 1001;  // an NTSC rate is 1000/1001 of a whole one

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<FrameRate> checked(FrameRate rate) { return rate.is_valid() ? std::optional(rate) : std::nullopt; }

// The NTSC rate of which the digits are a rounding.
std::optional<FrameRate> ntsc_rate(double value, size_t decimals) {
  constexpr size_t kFewest = 2;  // "24.0" is no NTSC rate
  if (decimals < kFewest) return std::nullopt;
  const FrameRate rate(std::llround(value * kNtsc / 1000) * 1000, kNtsc);
  const double scale = std::pow(10.0, static_cast<double>(decimals));
  const bool is_rounding = std::abs(std::round(rate.value() * scale) - value * scale) < 1e-3;
  return is_rounding ? checked(rate) : std::nullopt;
}

std::optional<FrameRate> parse_fraction(std::string_view above, std::string_view below) {
  constexpr size_t kLongest = 15;  // digits; the product of two such numbers does not overflow
  if (!is_digits(above) || !is_digits(below) || above.size() > kLongest || below.size() > kLongest) return std::nullopt;
  const int64_t denominator = *parse_whole<int64_t>(below);
  return denominator == 0 ? std::nullopt : checked({*parse_whole<int64_t>(above), denominator});
}

std::optional<FrameRate> parse_decimal_rate(std::string_view whole, std::string_view decimals) {
  constexpr size_t kLongest = 12;
  if (!is_digits(whole) || !is_digits(decimals) || whole.size() > 4 || decimals.size() > kLongest) return std::nullopt;
  const std::string text = std::string(whole) + "." + std::string(decimals);
  const double value = *parse_decimal(text);
  if (const auto rate = ntsc_rate(value, decimals.size())) return rate;
  return checked({std::llround(value * kMaxDenominator), kMaxDenominator});
}

}  // namespace

FrameRate::FrameRate(int64_t above, int64_t below) {
  const int64_t divisor = std::max<int64_t>(std::gcd(above, below), 1);
  numerator = above / divisor;
  denominator = below / divisor;
}

bool FrameRate::is_valid() const {
  return denominator >= 1 && denominator <= kMaxDenominator && numerator >= denominator &&
         numerator <= kMaxFps * denominator;
}

int64_t FrameRate::rounded() const { return std::llround(value()); }

std::optional<FrameRate> parse_frame_rate(std::string_view text) {
  if (const size_t slash = text.find('/'); slash != std::string_view::npos) {
    return parse_fraction(text.substr(0, slash), text.substr(slash + 1));
  }
  if (const size_t point = text.find('.'); point != std::string_view::npos) {
    return parse_decimal_rate(text.substr(0, point), text.substr(point + 1));
  }
  return parse_fraction(text, "1");
}

std::string to_string(const FrameRate& rate) {
  const std::string above = std::to_string(rate.numerator);
  return rate.is_whole() ? above : above + "/" + std::to_string(rate.denominator);
}

FrameRate nearest_frame_rate(double fps) {
  if (!(fps > 1)) return 1;
  if (fps >= kMaxFps) return kMaxFps;
  const auto is_near = [fps](const FrameRate& rate) { return std::abs(rate.value() / fps - 1) < 1e-4; };
  if (const FrameRate whole(std::llround(fps)); is_near(whole)) return whole;
  if (const FrameRate ntsc(std::llround(fps * kNtsc / 1000) * 1000, kNtsc); ntsc.is_valid() && is_near(ntsc)) {
    return ntsc;
  }
  return {std::llround(fps * 1000), 1000};
}

}  // namespace opensora
