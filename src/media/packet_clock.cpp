#include "media/packet_clock.h"

#include <cmath>

#include "media/ffmpeg_functions.h"

namespace opensora::media {
namespace {

// Seconds. ffmpeg's -dts_delta_threshold, its tolerance for steps back, and its -dts_error_threshold.
constexpr double kJump = 10, kStepBack = 0.1, kAbsurd = 30 * 3600;

// Beyond this sums might overflow; no clock of a file goes that far.
constexpr int64_t kLimit = INT64_MAX / 4;

bool is_beyond_limit(int64_t stamp) { return stamp > kLimit || stamp < -kLimit; }

void drop_if_beyond_limit(int64_t& stamp) {
  if (is_beyond_limit(stamp)) stamp = AV_NOPTS_VALUE;  // as which it also counts itself
}

void shift(int64_t& stamp, int64_t offset) {
  if (stamp != AV_NOPTS_VALUE) stamp += offset;
}

}  // namespace

PacketClock::PacketClock(const AVFormatContext& format, const AVStream& stream, int64_t frame_ticks)
    : format_(format), stream_(stream), frame_ticks_(frame_ticks) {
  const int64_t start = format.start_time == AV_NOPTS_VALUE
                            ? 0
                            : av_rescale_q(format.start_time, AVRational{1, AV_TIME_BASE}, stream.time_base);
  if (!is_beyond_limit(start)) offset_ = -start;
}

double PacketClock::seconds(int64_t ticks) const { return static_cast<double>(ticks) * av_q2d(stream_.time_base); }

void PacketClock::correct(AVPacket& packet) {
  for (int64_t* stamp : {&packet.pts, &packet.dts}) {
    drop_if_beyond_limit(*stamp);
    shift(*stamp, offset_);
    drop_if_beyond_limit(*stamp);
  }
  if ((format_.iformat->flags & AVFMT_TS_DISCONT) != 0) {
    follow_jump(packet);
  } else {
    drop_absurd(packet);
  }
  if (packet.dts != AV_NOPTS_VALUE) last_ = next_ = packet.dts;
  if (next_) *next_ += packet.duration > 0 && !is_beyond_limit(packet.duration) ? packet.duration : frame_ticks_;
  if (next_ && is_beyond_limit(*next_)) next_.reset();
}

void PacketClock::follow_jump(AVPacket& packet) {
  if (packet.dts == AV_NOPTS_VALUE || !next_ || !last_) return;
  const int64_t jump = packet.dts - *next_;
  if (std::abs(seconds(jump)) <= kJump && seconds(packet.dts - *last_) >= -kStepBack) return;
  if (is_beyond_limit(offset_ - jump)) return;
  offset_ -= jump;
  shift(packet.dts, -jump);
  shift(packet.pts, -jump);
}

void PacketClock::drop_absurd(AVPacket& packet) const {
  if (!next_) return;
  for (int64_t* stamp : {&packet.pts, &packet.dts}) {
    if (*stamp != AV_NOPTS_VALUE && std::abs(seconds(*stamp - *next_)) > kAbsurd) *stamp = AV_NOPTS_VALUE;
  }
}

}  // namespace opensora::media
