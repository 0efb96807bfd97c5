// From the time stamps of frames to pictures at a constant rate.
#pragma once

#include <cstdint>

struct AVFrame;
struct AVStream;

namespace opensora::media {

// Which of the pictures 0, 1, 2, … of a constant rate a frame is shown in, as FFmpeg's filter "fps" has it: time stamps
// are rounded to the nearest picture (halves away from 0), and a frame is shown from there to the next frame's.
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

}  // namespace opensora::media
