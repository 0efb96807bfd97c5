#include "media/frame_slots.h"

#include "media/ffmpeg_functions.h"

namespace opensora::media {

FrameSlots::FrameSlots(const AVStream& stream, int64_t frame_ticks, double fps)
    : stream_(stream), frame_ticks_(frame_ticks) {
  constexpr int kFinest = 1001000;  // 24000/1001 is told from 23.976
  const AVRational rate = av_d2q(fps, kFinest);
  rate_numerator_ = rate.num;
  rate_denominator_ = rate.den;
}

int64_t FrameSlots::begin(const AVFrame& frame) {
  const int64_t stamp = frame.best_effort_timestamp == AV_NOPTS_VALUE ? next_ : frame.best_effort_timestamp;
  const bool has_length = frame.pkt_duration > 0 && frame.pkt_duration < INT64_MAX / 4;
  next_ = stamp + (has_length ? frame.pkt_duration : frame_ticks_);
  return slot(stamp);
}

int64_t FrameSlots::slot(int64_t stamp) const {
  return av_rescale_q_rnd(stamp, stream_.time_base, AVRational{rate_denominator_, rate_numerator_}, AV_ROUND_NEAR_INF);
}

}  // namespace opensora::media
