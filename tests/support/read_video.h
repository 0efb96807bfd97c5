// Reads an MP4 or a PNG back through FFmpeg, for the tests of all rooms.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace opensora::test {

struct DecodedFrame {
  std::vector<uint8_t> rgb;   // height x width x 3; converted as the file's colour tags say
  std::vector<uint8_t> luma;  // height x width: the Y plane as stored; empty for a picture that is RGB
  double time = 0;            // seconds

  // The red (0), green (1) or blue (2) value of a pixel, in a frame of that width.
  int at(int x, int y, int channel, int width) const { return rgb[(static_cast<size_t>(y) * width + x) * 3 + channel]; }
};

struct DecodedVideo {
  int width = 0;
  int height = 0;
  double fps = 0;       // the stream's average
  double duration = 0;  // seconds, of the stream
  // FFmpeg's names: "h264", "yuv420p", "bt709", "tv", "left".
  std::string codec;
  std::string pixel_format;
  std::string color_space;
  std::string color_primaries;
  std::string color_transfer;
  std::string color_range;
  std::string chroma_location;
  std::vector<DecodedFrame> frames;
};

// Throws std::runtime_error with the file's name if it cannot be read whole.
DecodedVideo read_video(const std::filesystem::path& file);

}  // namespace opensora::test
