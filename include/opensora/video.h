// Videos: how large and how fast they may be, and what a file of one holds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace opensora {

// Beyond these a request is refused before anything runs. No machine makes what lies beyond them; flags, configurations
// and prompts files share them, and what is read has them too.
inline constexpr int64_t kMaxEdge = 16384;     // pixels of a side: what H.264 and H.265 can hold
inline constexpr int64_t kMaxFrames = 100000;  // more than an hour at 24 frames a second
inline constexpr int64_t kMaxFps = 1000;       // frames a second; at least 1
inline constexpr int kMaxCrf = 51;

// Pixels.
struct PixelSize {
  int64_t width = 0, height = 0;
  friend bool operator==(const PixelSize&, const PixelSize&) = default;
};

// Frames a second, as an exact fraction in lowest terms. From 1 to kMaxFps, the denominator at most 1,000,000.
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

// "24", "12.5", "30000/1001". A decimal that is one of the rates of NTSC, rounded to two places or more, is that rate:
// "23.976" and "23.98" are 24000/1001, "29.97" is 30000/1001, "59.94" is 60000/1001. nullopt: none of these, or out of
// range.
std::optional<FrameRate> parse_frame_rate(std::string_view text);

// "24", "24000/1001"; parse_frame_rate() gives the same rate again.
std::string to_string(const FrameRate& rate);

// The rate that a measured number of frames a second stands for: a whole one or one of NTSC where it is within 0.01 %
// of it, else to three decimals. Out of range: the nearest that is in it.
FrameRate nearest_frame_rate(double fps);

struct VideoInfo {
  int width = 0, height = 0;  // pixels, as coded
  int64_t frames = 0;         // counted: those that are there whole, whatever the index says
  double fps = 0;             // frames a second, on average; 0 if unknown
  double duration = 0;        // seconds, from the start of the first frame to the end of the last
  std::string codec;          // FFmpeg's names: "h264", "hevc", "ffv1"
  std::string pixel_format;   // "yuv420p"
  std::string comment;        // UTF-8, the container's comment tag; empty: none
};

// Of the (best) video stream of a local file; the format is told from the content. Reads the whole file, and decodes
// only as much of it as tells the pixel format. Throws InputMediaError: not there, no video, damaged.
VideoInfo read_video_info(const std::filesystem::path& path);

}  // namespace opensora
