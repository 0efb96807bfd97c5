// Reads images and videos as RGB pictures.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "media/decoder.h"
#include "media/ffmpeg.h"
#include "media/picture.h"
#include "media/to_rgb.h"

struct AVFrame;
struct AVStream;

namespace opensora::media {

// Tells which of the pictures 0, 1, 2, … of a constant rate a frame is shown in, as FFmpeg's filter "fps" has it: time
// stamps are rounded to the nearest picture (halves away from 0), and a frame is shown from there to the next frame's.
class FrameSlots {
 public:
  // `frame_ticks`: of the stream's time base, in a frame of average length; 0 if unknown. `fps`: pictures a second,
  // above 0. The stream must outlive it.
  FrameSlots(const AVStream& stream, int64_t frame_ticks, double fps);

  // For each frame, in order of presentation: the picture at which it starts. A frame without a time stamp starts where
  // the one before it ends.
  int64_t begin(const AVFrame& frame);

  // The picture that would follow the last frame.
  int64_t end() const { return slot(next_); }

 private:
  int64_t slot(int64_t stamp) const;

  const AVStream& stream_;
  int rate_numerator_, rate_denominator_;  // pictures in so many seconds
  int64_t frame_ticks_;
  int64_t next_ = 0;  // where the last frame ends
};

struct ReadOptions {
  double fps = 0;      // pictures a second that are wanted of a video or an animated image; 0: its frames, one by one
  PollCallback poll;   // called often; what it throws ends the reading
  bool quiet = false;  // no log lines: the file is read again
};

// The pictures of a local image or video file, one after another; one or two frames are in memory at a time. Turned
// upright (EXIF, display matrix), of square pixels, all of the first one's size, in 8-bit RGB as RgbConverter makes it.
// All errors are InputMediaError, as Decoder throws them. What is interlaced is read as it is, with a warning.
class MediaReader {
 public:
  // With a rate the frames are resampled in time by their time stamps, as FFmpeg's filter "fps" does it: a frame is
  // shown from the nearest picture to its time on until the next one is, so that it may come often or not at all.
  explicit MediaReader(const std::filesystem::path& path, const ReadOptions& options = {});

  // The next picture, or nullopt after the last.
  std::optional<Picture> next();

  // Passes over the next pictures, which saves their conversion. Returns how many there were: less than `count` at the
  // end. Takes no longer where a frame is shown for hours.
  int64_t skip(int64_t count = 1);

  // The last of the pictures that are left; nullopt if there are none.
  std::optional<Picture> last();

  // Whether the format is one for pictures (PNG, JPEG, GIF, ...) and not for videos. An animated GIF or PNG still has
  // more than one picture.
  bool is_image() const { return decoder_.is_image(); }
  bool may_be_animated() const { return decoder_.may_be_animated(); }

  // Frames of the file that were decoded so far.
  int64_t decoded() const { return decoded_; }

  // Pictures a second of what next() gives; 0 if unknown.
  double fps() const { return fps_ > 0 ? fps_ : decoder_.fps(); }

 private:
  bool advance();  // sets current_ and left_ to what is next; false after the last
  void measure(AVFrame& frame);
  FramePtr decode();
  Orientation upright(const AVFrame& frame) const;
  Picture convert(const AVFrame& frame);
  Picture scale(Picture picture, Size size);
  void warn_of_interlacing(const AVFrame& frame);

  Decoder decoder_;
  RgbConverter converter_;
  std::optional<RgbScaler> scaler_;
  Size scaled_from_, scaled_to_;  // by scaler_
  double fps_ = 0;                // 0: as it is
  std::optional<FrameSlots> slots_;
  FramePtr current_, following_;
  std::optional<Picture> picture_;  // current_'s
  int64_t left_ = 0;                // how often current_ is still to be given
  int64_t position_ = 0;            // the slot after current_'s last
  int64_t decoded_ = 0;
  Size size_;  // of all pictures
  bool warned_of_interlacing_ = false;
};

// The first picture of an image or video file, or the last one of a video, with a log line. Of an animated image it is
// always the first, with a log line.
enum class Position { kFirst, kLast };
struct ReadPicture {
  Picture picture;
  bool is_image = false;  // and not the frame of a video
};
ReadPicture read_picture(const std::filesystem::path& path, Position position = Position::kFirst,
                         const PollCallback& poll = {});

// How many pictures MediaReader(path, options) gives. Decodes the whole file.
int64_t count_pictures(const std::filesystem::path& path, const ReadOptions& options = {});

}  // namespace opensora::media
