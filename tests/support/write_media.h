// Writes images and videos of every kind, with FFmpeg's own encoders, as inputs of tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "media/ffmpeg.h"

namespace opensora::test {

// The value of a component (R, G, B, A or Y, U, V, A, in the format's depth) at a pixel of its plane.
using Fill = std::function<int(int x, int y, int component)>;

// `pixel_format`: FFmpeg's name, "rgb48be". For "pal8" component 0 is the index and the palette follows `palette`
// (ARGB).
media::FramePtr make_frame(const std::string& pixel_format, int width, int height, const Fill& fill,
                           const std::vector<uint32_t>& palette = {});

struct MediaSpec {
  std::string codec;                 // an encoder's name: "png", "mjpeg", "ffv1"
  std::string muxer = "image2pipe";  // "gif", "apng", "mp4", "matroska"
  int fps = 24;
  int ticks = 1;                // time stamps are in 1 / (fps * ticks) of a second; a frame is `ticks` of them long
  std::vector<int64_t> stamps;  // of the frames; empty: one after another
  int rotation = 0;             // degrees clockwise that a player shall turn the video; 0: no display matrix
  std::pair<int, int> pixel_aspect{0, 1};                // width and height of a pixel; 0: nothing is said
  bool top_field_first = false;                          // the stream is interlaced, and says so
  std::string color_space, color_range, color_transfer;  // FFmpeg's names; empty: untagged
  std::vector<std::pair<std::string, std::string>> options, muxer_options;  // options: of the encoder
};

bool has_encoder(const std::string& name);

// Throws std::runtime_error if FFmpeg will not.
void write_media(const std::filesystem::path& path, const MediaSpec& spec, const std::vector<media::FramePtr>& frames);

// The JPEG with an EXIF segment that holds this Orientation (1 to 8) and nothing else.
std::string with_exif_orientation(const std::string& jpeg, int orientation);

}  // namespace opensora::test
