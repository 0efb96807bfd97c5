#include "media/media_reader.h"

#include <spdlog/spdlog.h>

#include <cmath>
#include <utility>

#include "media/ffmpeg_functions.h"

namespace opensora::media {
namespace {

constexpr double kSameRate = 0.01;  // relative: NTSC's 23.976 and 24 are the same to us
constexpr double kTie = 1e-6;       // seconds: of two frames that are equally near it is always the earlier one

double resampled_fps(const Decoder& decoder, double target) {
  const double source = decoder.fps();
  if (target == 0 || source == 0 || decoder.is_image()) return 0;
  if (std::abs(source / target - 1) <= kSameRate) return 0;
  spdlog::info("{}: has {:.5g} frames a second; read as {:.5g} by taking the nearest frames", decoder.path().string(),
               source, target);
  return target;
}

}  // namespace

MediaReader::MediaReader(const std::filesystem::path& path, double target_fps)
    : decoder_(path), converter_(path), resampled_fps_(resampled_fps(decoder_, target_fps)) {}

double MediaReader::fps() const { return resampled_fps_ > 0 ? resampled_fps_ : decoder_.fps(); }

std::optional<Picture> MediaReader::next() {
  if (!advance()) return std::nullopt;
  const AVFrame& frame = *current_->frame;
  return turn(converter_.convert(frame), orientation(frame, decoder_.stream()));
}

bool MediaReader::skip() { return advance(); }

bool MediaReader::advance() {
  if (resampled_fps_ > 0) return advance_to(static_cast<double>(position_++) / resampled_fps_);
  current_ = decode();
  return current_.has_value();
}

bool MediaReader::advance_to(double time) {
  if (decoded_ == 0) {
    current_ = decode();
    following_ = decode();
  }
  while (following_ && following_->time - time + kTie < time - current_->time) {
    current_ = std::exchange(following_, decode());
  }
  // The last frame is shown as long as an average one, less what containers round time stamps by.
  return following_ || time - current_->time < 0.95 / decoder_.fps();
}

std::optional<MediaReader::TimedFrame> MediaReader::decode() {
  TimedFrame result{FramePtr(not_null(av_frame_alloc())), 0};
  if (!decoder_.decode(*result.frame)) return std::nullopt;
  const int64_t stamp = result.frame->best_effort_timestamp;
  const double fps = decoder_.fps();
  const double time = stamp != AV_NOPTS_VALUE ? static_cast<double>(stamp) * av_q2d(decoder_.stream().time_base)
                      : fps > 0               ? static_cast<double>(decoded_) / fps
                                              : 0;
  if (decoded_++ == 0) start_ = time;
  result.time = time - start_;
  return result;
}

ReadPicture read_picture(const std::filesystem::path& path, Position position) {
  MediaReader reader(path);
  if (position == Position::kFirst || reader.is_image()) {
    Picture picture = *reader.next();  // a file without any frame is an error
    if (reader.may_be_animated() && reader.skip()) {
      spdlog::info("{}: is animated; its first frame is taken", path.string());
    }
    return {std::move(picture), reader.is_image()};
  }
  const int64_t count = count_pictures(path);
  for (int64_t i = 0; i + 1 < count; ++i) reader.skip();
  return {*reader.next(), false};
}

int64_t count_pictures(const std::filesystem::path& path, double target_fps) {
  MediaReader reader(path, target_fps);
  int64_t count = 0;
  while (reader.skip()) ++count;
  return count;
}

}  // namespace opensora::media
