// What a video file is, and what is written in it about its making.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace opensora {

struct VideoInfo {
  int width = 0, height = 0;  // pixels, as coded
  int64_t frames = 0;         // counted: those that are there whole, whatever the index says
  double fps = 0;             // frames a second, on average; 0 if unknown
  double duration = 0;        // seconds, from the start of the first frame to the end of the last
  std::string codec;          // FFmpeg's names: "h264", "hevc", "ffv1"
  std::string pixel_format;   // "yuv420p"
  std::string comment;        // UTF-8, the container's comment tag; empty: none
};

// Of the (best) video stream of a local file; the format is told from the content. Reads the whole file and decodes
// no more of it than what tells the pixel format. Throws InputMediaError: not there, no video, damaged.
VideoInfo read_video_info(const std::filesystem::path& path);

}  // namespace opensora
