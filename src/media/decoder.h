// Decodes the pictures of a local file.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>

#include "media/ffmpeg.h"
#include "media/input.h"
#include "media/scale.h"

struct AVStream;

namespace opensora::media {

// The frames of a file's (best) video stream in order of presentation, as the codec has them. Images are videos of one
// frame. The format is told from the content; the file's name means nothing.
//
// All errors are InputMediaError and name the file. Nothing damaged is handed out as if it were whole: an image must be
// complete and pass its checksums, and a video ends with an error at the first damaged or truncated frame.
class Decoder {
 public:
  // Throws for what is no regular file (also for a URL: nothing is downloaded), holds no video stream, or has a codec
  // that this FFmpeg cannot decode.
  explicit Decoder(std::filesystem::path path);

  Decoder(const Decoder&) = delete;  // FFmpeg keeps its address
  Decoder& operator=(const Decoder&) = delete;

  // Puts the next frame into `frame` and returns true, or returns false after the last one. Throws as above, for a file
  // without any frame, and for frames of more than 16384 pixels each way, before they are allocated.
  bool decode(AVFrame& frame);

  const std::filesystem::path& path() const { return path_; }
  const AVStream& stream() const;
  // A format for pictures (PNG, JPEG, GIF, ...), not for videos.
  bool is_image() const { return is_image_; }
  // Of the two: GIF and animated PNG.
  bool may_be_animated() const;
  // Frames a second, on average; 0 if unknown.
  double fps() const;

 private:
  static int allocate_frame(AVCodecContext* context, AVFrame* frame, int flags);
  void open_decoder();
  bool send_packet();  // false: there are no more
  void check_packet() const;
  void check_frame(const AVFrame& frame) const;
  [[noreturn]] void throw_decoding_failed(int error) const;
  [[noreturn]] void throw_too_large(Size size) const;

  std::filesystem::path path_;
  Input input_;
  CodecContextPtr decoder_;
  PacketPtr packet_;
  int stream_index_ = 0;
  bool is_image_ = false;
  int64_t frames_ = 0;
  std::atomic<Size> refused_size_{};  // of a frame that was too large; written by the codec's threads
};

}  // namespace opensora::media
