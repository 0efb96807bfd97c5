// Opens local images and videos for reading.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "media/ffmpeg.h"
#include "media/heif.h"
#include "media/image_tags.h"
#include "media/interruption.h"

namespace opensora::media {

struct Input {
  ImageTags tags;                   // of a picture's file
  std::optional<HeifPicture> heif;  // whose stream `format` reads, then
  std::unique_ptr<Interruption> interruption;
  IoPtr io;  // destroyed after format, which reads through it
  InputFormatPtr format;
};

// Opens `given` (or the local file that a file URL means) and looks at its streams. The format is told from the
// content; the file's name means nothing. Throws InputMediaError for what is no regular file (also for other URLs:
// nothing is downloaded) or of no known format; what is known to be something else is called by its name. With
// `describe` what only a decoded frame tells (the pixel format) is known of still pictures, too.
Input open_input(const std::filesystem::path& given, PollCallback poll = {}, bool describe = false);

// Throws InputMediaError, which says what the file holds, that it is damaged or of a kind that FFmpeg cannot read, and
// what to do. `tags`: where they know why, `error` (FFmpeg's words) is left out.
[[noreturn]] void throw_unreadable(const std::filesystem::path& path, const ImageTags& tags, const std::string& error);

// A format of single pictures (PNG, JPEG, WebP, HEIC, ...): whatever follows the first one in its file is none to be
// shown (the depth map and the brighter version that phones keep behind a JPEG).
bool is_still_format(const Input& input);

// The index of the best video stream. Throws InputMediaError if there is none, or if it is encrypted.
int find_video_stream(const Input& input, const std::filesystem::path& path);

// Frames a second, on average; 0 if unknown.
double frame_rate(const Input& input, int stream_index);

// The length of an average frame in the stream's time base; 0 if unknown.
int64_t frame_ticks(const Input& input, int stream_index);

}  // namespace opensora::media
