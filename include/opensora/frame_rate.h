// Frames a second, as an exact fraction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace opensora {

// In lowest terms. From 1 to kMaxFps (limits.h) frames a second, the denominator at most 1,000,000.
struct FrameRate {
  int64_t numerator = 24, denominator = 1;

  constexpr FrameRate() = default;
  constexpr FrameRate(int64_t whole) : numerator(whole) {}  // NOLINT(google-explicit-constructor): 24 is a rate
  // Any fraction, reduced. The denominator is above 0.
  FrameRate(int64_t numerator, int64_t denominator);

  double value() const { return static_cast<double>(numerator) / static_cast<double>(denominator); }
  bool is_whole() const { return denominator == 1; }
  bool is_valid() const;    // within the limits above
  int64_t rounded() const;  // to whole frames a second, as the prompt's suffix says it
  bool operator==(const FrameRate&) const = default;
};

// What parse_frame_rate() takes, for messages.
inline constexpr const char* kFrameRateExpected = "frames a second from 1 to 1000, such as 24, 23.976 or 30000/1001";

// "24", "12.5", "30000/1001". A decimal that is a rate of NTSC, rounded to two places or more, is that rate: "23.976"
// and "23.98" are 24000/1001, "29.97" is 30000/1001, "59.94" is 60000/1001. nullopt: none of these, or out of range.
std::optional<FrameRate> parse_frame_rate(std::string_view text);

// "24", "24000/1001"; parse_frame_rate() gives the same rate again.
std::string to_string(const FrameRate& rate);

// The rate that a measured number of frames a second stands for: a whole one or one of NTSC where it is within 0.01 %
// of it, else to three decimals. Out of range: the nearest that is in it.
FrameRate nearest_frame_rate(double fps);

}  // namespace opensora
