// Decodes the pictures of a local file.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "media/ffmpeg.h"
#include "media/ffmpeg_errors.h"
#include "media/input.h"
#include "media/packet_clock.h"
#include "media/picture_shape.h"
#include "media/scale.h"

struct AVStream;

namespace opensora::media {

// The frames of a file's (best) video stream in order of presentation, as the codec has them. Images are videos of one
// frame. The format is told from the content; the file's name means nothing.
//
// All errors are InputMediaError and name the file. Nothing damaged is handed out as if it were whole: an image must be
// complete and pass its checksums, and a video ends with an error at the first damaged or truncated frame. A transport
// stream that begins between two key frames is read from the next one on, and one in which packets are missing (or
// which was joined from several) as far as its frames decode, each with a log line.
class Decoder {
 public:
  // Throws for what is no regular file (also for a URL: nothing is downloaded), holds no video stream, or has a codec
  // that this FFmpeg cannot decode; and what `poll` throws, as decode() does. `quiet`: without log lines.
  explicit Decoder(const std::filesystem::path& path, PollCallback poll = {}, bool quiet = false);

  ~Decoder();  // warns of what FFmpeg called an error without that it led to one

  Decoder(const Decoder&) = delete;  // FFmpeg keeps its address
  Decoder& operator=(const Decoder&) = delete;

  // Puts the next frame into `frame` and returns true, or returns false after the last one. Its time stamps begin at 0
  // and do not jump where recordings were joined (see PacketClock). Throws as above, for a file without any frame, and
  // for frames of more than 16384 pixels each way, before they are allocated.
  bool decode(AVFrame& frame);

  const std::filesystem::path& path() const { return path_; }
  const AVStream& stream() const;
  bool is_quiet() const { return is_quiet_; }
  // A format for pictures (PNG, JPEG, GIF, ...), not for videos.
  bool is_image() const { return is_image_; }
  // What a picture's file says beside its pixels.
  const ImageTags& tags() const { return input_.tags; }
  // Of the two: GIF and animated PNG.
  bool may_be_animated() const;
  // Frames a second, on average; 0 if unknown.
  double fps() const;
  // The length of an average frame in the stream's time base; 0 if unknown.
  int64_t frame_ticks() const { return media::frame_ticks(input_, stream_index_); }
  // How wide the pixels of a frame are, by their height: {1, 1} for square ones and where nothing is said.
  Ratio pixel_aspect(AVFrame& frame) const;
  // Whether the frame's rows are of two moments.
  bool is_interlaced(const AVFrame& frame) const;

 private:
  static int allocate_frame(AVCodecContext* context, AVFrame* frame, int flags);
  void open_decoder();
  bool decode_next(AVFrame& frame);  // as decode(): what the codec gives
  bool decode_tiles(AVFrame& frame);
  bool send_packet();  // false: there are no more
  bool is_before_key_frame();
  void check_packet();
  void check_found_frames() const;
  void check_frame(const AVFrame& frame) const;
  [[noreturn]] void throw_damaged(const std::string& reason) const;
  [[noreturn]] void throw_decoding_failed(int error) const;
  [[noreturn]] void throw_too_large(Size size) const;

  std::filesystem::path path_;
  FfmpegErrors errors_;
  Input input_;
  CodecContextPtr decoder_;
  PacketPtr packet_;
  std::optional<PacketClock> clock_;
  int stream_index_ = 0;
  bool is_image_ = false, is_quiet_ = false;
  bool has_key_frame_ = false;  // so far; or it does not matter
  bool warned_of_break_ = false;
  int64_t left_out_ = 0;  // packets before the first key frame
  int64_t packets_ = 0;   // sent to the codec
  int64_t frames_ = 0;
  std::atomic<Size> refused_size_{};  // of a frame that was too large; written by the codec's threads
};

}  // namespace opensora::media
