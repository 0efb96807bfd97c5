// What FFmpeg logs as errors while it reads one file.
#pragma once

#include <string>
#include <vector>

namespace opensora::media {

// FFmpeg's return codes do not tell everything: some codecs paint over what is damaged, and some formats take a cut for
// the end, and only say so in the log, as the program ffmpeg prints it. Collected from all threads.
class FfmpegErrors {
 public:
  FfmpegErrors();
  ~FfmpegErrors();
  FfmpegErrors(const FfmpegErrors&) = delete;
  FfmpegErrors& operator=(const FfmpegErrors&) = delete;

  // `source`: an AVFormatContext, or the `opaque` of an AVCodecContext, which its threads share.
  void watch(const void* source);

  // The first message, without FFmpeg's prefix; empty: none.
  std::string first() const;

  // For the log's callback. `source`: what FFmpeg gives it.
  static void note(void* source, const std::string& message);

 private:
  std::vector<const void*> sources_;
  std::string first_;
};

}  // namespace opensora::media
