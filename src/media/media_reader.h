// Reads images and videos as RGB pictures.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "media/decoder.h"
#include "media/ffmpeg.h"
#include "media/frame_slots.h"
#include "media/picture.h"
#include "media/picture_shape.h"
#include "media/to_rgb.h"

namespace opensora::media {

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

  // A picture format (PNG, JPEG, GIF, ...) and not a video. An animated GIF or PNG has more pictures than one all the
  // same.
  bool is_image() const { return decoder_.is_image(); }
  bool may_be_animated() const { return decoder_.may_be_animated(); }

  // Frames of the file that were decoded so far.
  int64_t decoded() const { return decoded_; }

  // Pictures a second of what next() gives; 0 if unknown.
  double fps() const { return fps_ > 0 ? fps_ : decoder_.fps(); }

 private:
  bool advance();  // current_ and left_: what is next; false after the last
  void measure(AVFrame& frame);
  FramePtr decode();
  Orientation upright(const AVFrame& frame) const;
  Picture convert(const AVFrame& frame);
  void warn_of_interlacing(const AVFrame& frame);

  Decoder decoder_;
  RgbConverter converter_;
  PictureScaler scaler_;
  double fps_ = 0;  // 0: as it is
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
