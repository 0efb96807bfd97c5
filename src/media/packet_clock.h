// Time stamps of packets that go on where those of joined recordings jump.
#pragma once

#include <cstdint>
#include <optional>

struct AVFormatContext;
struct AVPacket;
struct AVStream;

namespace opensora::media {

// Corrects what FFmpeg's own tools correct, in the same way: the file starts at time 0; in formats whose clock may
// start anew (MPEG-TS and MPEG-PS, which are joined by appending them), a jump of more than 10 seconds or backwards
// goes on without one; in all others a time stamp that is more than 30 hours from where it should be is dropped.
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

}  // namespace opensora::media
