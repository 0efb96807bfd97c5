// Opens local images and videos for reading.
#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "media/ffmpeg.h"
#include "media/heif.h"
#include "media/image_tags.h"

namespace opensora::media {

// Called often while a file is read, for each packet and each piece of the file; what it throws ends the reading.
using PollCallback = std::function<void()>;

// A PollCallback that FFmpeg can call, through which nothing may be thrown. FFmpeg keeps its address.
class Interruption {
 public:
  explicit Interruption(PollCallback poll) : poll_(std::move(poll)) {}
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  // For AVIOInterruptCB: returns 1 to stop what FFmpeg is doing.
  static int should_stop(void* interruption) noexcept;

  // To be called between FFmpeg's functions: throws what the callback throws, now or when FFmpeg called it.
  void check();

 private:
  PollCallback poll_;
  std::exception_ptr thrown_;
};

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

// Throws InputMediaError unless it is a regular file with something in it; says what it is instead, and of a URL that
// only local files are read. Does not open it: a pipe would be waited for.
void check_regular_file(const std::filesystem::path& path);

// Throws InputMediaError, which says what the file holds, that it is damaged or of a kind that FFmpeg cannot read, and
// what to do. Where `tags` know the reason, `error` (FFmpeg's words) is left out.
[[noreturn]] void throw_unreadable(const std::filesystem::path& path, const ImageTags& tags, const std::string& error);

// Whether the format is one of single pictures (PNG, JPEG, WebP, HEIC, ...): whatever follows the first one in its file
// is none to be shown (the depth map and the brighter version that phones keep behind a JPEG).
bool is_still_format(const Input& input);

// The index of the best video stream. Throws InputMediaError if there is none, or if it is encrypted.
int find_video_stream(const Input& input, const std::filesystem::path& path);

// Frames a second, on average; 0 if unknown.
double frame_rate(const Input& input, int stream_index);

// The length of an average frame in the stream's time base; 0 if unknown.
int64_t frame_ticks(const Input& input, int stream_index);

}  // namespace opensora::media
