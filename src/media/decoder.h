// Decodes the pictures of a local file.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "media/ffmpeg.h"
#include "media/input.h"
#include "media/picture.h"

struct AVFormatContext;
struct AVPacket;
struct AVRational;
struct AVStream;

namespace opensora::media {

// Makes the time stamps of packets go on where those of joined recordings jump. Corrects what FFmpeg's own tools
// correct, in the same way: the file starts at time 0; in formats whose clock may start anew (MPEG-TS and MPEG-PS,
// which are joined by appending them), a jump of more than 10 seconds or backwards goes on without one; in all others a
// time stamp that is more than 30 hours from where it should be is dropped.
class PacketClock {
 public:
  // Both must outlive it. `frame_ticks`: of the stream's time base, in a frame of average length; 0 if unknown.
  PacketClock(const AVFormatContext& format, const AVStream& stream, int64_t frame_ticks);

  // For each packet of the stream, in the order of the file.
  void correct(AVPacket& packet);

 private:
  void follow_jump(AVPacket& packet);
  void drop_absurd(AVPacket& packet) const;
  double seconds(int64_t ticks) const;

  const AVFormatContext& format_;
  const AVStream& stream_;
  int64_t frame_ticks_;
  int64_t offset_ = 0;                  // added to each time stamp
  std::optional<int64_t> next_, last_;  // decoding times: expected next, and of the last packet
};

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

  ~Decoder();  // warns of what FFmpeg called an error although none was thrown

  Decoder(const Decoder&) = delete;  // FFmpeg keeps its address
  Decoder& operator=(const Decoder&) = delete;

  // Puts the next frame into `frame` and returns true, or returns false after the last one. Its time stamps begin at 0
  // and do not jump where recordings were joined (see PacketClock). Throws as above, for a file without any frame, and
  // for frames of more than 16384 pixels each way, before they are allocated.
  bool decode(AVFrame& frame);

  const std::filesystem::path& path() const { return path_; }
  const AVStream& stream() const;
  bool is_quiet() const { return is_quiet_; }
  // Whether the format is one for pictures (PNG, JPEG, GIF, ...) and not for videos.
  bool is_image() const { return is_image_; }
  // What a picture's file says beside its pixels.
  const ImageTags& tags() const { return input_.tags; }
  // Whether it is a GIF or an animated PNG.
  bool may_be_animated() const;
  // Frames a second, on average; 0 if unknown.
  double fps() const;
  // The length of an average frame in the stream's time base; 0 if unknown.
  int64_t frame_ticks() const { return media::frame_ticks(input_, stream_index_); }
  // The width of a frame's pixels divided by their height: 1/1 for square ones and where the file says nothing.
  AVRational pixel_aspect(AVFrame& frame) const;
  // Whether the frame's rows come from two moments.
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
  bool has_key_frame_ = false;  // whether one has come, or none is needed
  bool warned_of_break_ = false;
  int64_t left_out_ = 0;  // packets before the first key frame
  int64_t packets_ = 0;   // sent to the codec
  int64_t frames_ = 0;
  std::atomic<Size> refused_size_{};  // of a frame that was too large; written by the codec's threads
};

}  // namespace opensora::media
