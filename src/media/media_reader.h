// Reads images and videos as RGB pictures.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "media/decoder.h"
#include "media/ffmpeg.h"
#include "media/picture.h"
#include "media/to_rgb.h"

namespace opensora::media {

// The pictures of a local image or video file, one after another; one is in memory at a time. Turned upright (EXIF,
// display matrix), in 8-bit RGB as RgbConverter makes it. All errors are InputMediaError, as Decoder throws them.
class MediaReader {
 public:
  // With `target_fps` (frames a second, 0: as the file has them) a video of another rate is resampled in time to it, by
  // the nearest frame, with a log line. Rates within 1 % (23.976 for 24) count as the same, and so does an unknown
  // rate.
  explicit MediaReader(const std::filesystem::path& path, double target_fps = 0);

  // The next picture, or nullopt after the last. Pictures of one file may differ in size.
  std::optional<Picture> next();

  // Passes over the next picture, which saves its conversion. Returns false after the last one.
  bool skip();

  // A picture format (PNG, JPEG, GIF, ...) and not a video. An animated GIF or PNG has more pictures than one all the
  // same.
  bool is_image() const { return decoder_.is_image(); }
  bool may_be_animated() const { return decoder_.may_be_animated(); }

  // Frames a second of what next() gives; 0 if unknown.
  double fps() const;

 private:
  struct TimedFrame {
    FramePtr frame;
    double time = 0;  // seconds since the first frame
  };

  bool advance();                // current_: what is next; false after the last
  bool advance_to(double time);  // current_: what is nearest to that time
  std::optional<TimedFrame> decode();

  Decoder decoder_;
  RgbConverter converter_;
  double resampled_fps_ = 0;  // 0: as it is
  int64_t position_ = 0;      // pictures given or passed over
  int64_t decoded_ = 0;
  double start_ = 0;  // time stamp of the first frame, seconds
  std::optional<TimedFrame> current_, following_;
};

// The first picture of an image or video file, or the last one of a video. Of an animated image it is always the first,
// with a log line.
enum class Position { kFirst, kLast };
struct ReadPicture {
  Picture picture;
  bool is_image = false;  // and not the frame of a video
};
ReadPicture read_picture(const std::filesystem::path& path, Position position = Position::kFirst);

// How many pictures MediaReader(path, target_fps) gives. Decodes the whole file.
int64_t count_pictures(const std::filesystem::path& path, double target_fps = 0);

}  // namespace opensora::media
