// Opens local images and videos for reading.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "media/ffmpeg.h"
#include "media/interruption.h"

namespace opensora::media {

struct Input {
  std::unique_ptr<Interruption> interruption;
  IoPtr io;  // destroyed after format, which reads through it
  InputFormatPtr format;
};

// Opens `path` and looks at its streams. The format is told from the content; the file's name means nothing. Throws
// InputMediaError for what is no regular file (also for a URL: nothing is downloaded) or of no known format.
Input open_input(const std::filesystem::path& path, PollCallback poll = {});

// The index of the best video stream. Throws InputMediaError if there is none, or if it is encrypted.
int find_video_stream(const Input& input, const std::filesystem::path& path);

// Frames a second, on average; 0 if unknown.
double frame_rate(const Input& input, int stream_index);

// The length of an average frame in the stream's time base; 0 if unknown.
int64_t frame_ticks(const Input& input, int stream_index);

// The widest and highest picture that is read, in pixels.
inline constexpr int kMaxInputEdge = 16384;

}  // namespace opensora::media
