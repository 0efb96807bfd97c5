#include "media/media_reader.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "media/ffmpeg_functions.h"
#include "opensora/video.h"

namespace opensora::media {
namespace {

// The rate to resample to; 0 if frames stay as they are.
double resampled_fps(const Decoder& decoder, double target) {
  constexpr double kSameRate = 0.01;  // relative: worth no line
  if (target == 0 || (decoder.is_image() && !decoder.may_be_animated())) return 0;
  const double source = decoder.fps();
  if (!decoder.is_quiet() && source > 0 && std::abs(source / target - 1) > kSameRate) {
    spdlog::info("{}: has {:.5g} frames a second; read as {:.5g} by its time stamps", decoder.path().string(), source,
                 target);
  }
  return target;
}

// The size in square pixels of a picture of `stored` pixels of another form: the shorter side of a pixel is stretched,
// so that nothing is lost. nullopt for a form that is nonsense (more than 10:1) or would exceed what can be read.
std::optional<Size> square_size(Size stored, AVRational pixel_aspect) {
  constexpr double kNonsense = 10;
  const double aspect = static_cast<double>(pixel_aspect.num) / pixel_aspect.den;
  if (aspect > kNonsense || aspect < 1 / kNonsense) return std::nullopt;
  const double width = stored.width * std::max(aspect, 1.0), height = stored.height * std::max(1 / aspect, 1.0);
  if (std::max(width, height) > kMaxEdge) return std::nullopt;
  return Size{static_cast<int>(std::lround(width)), static_cast<int>(std::lround(height))};
}

}  // namespace

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

MediaReader::MediaReader(const std::filesystem::path& path, const ReadOptions& options)
    : decoder_(path, options.poll, options.quiet),
      converter_(path, decoder_.is_image() ? &decoder_.tags() : nullptr),
      fps_(resampled_fps(decoder_, options.fps)) {
  if (fps_ > 0) slots_.emplace(decoder_.stream(), decoder_.frame_ticks(), fps_);
}

std::optional<Picture> MediaReader::next() {
  if (left_ == 0 && !advance()) return std::nullopt;
  if (!picture_) picture_ = convert(*current_);
  if (--left_ == 0) return std::exchange(picture_, std::nullopt);
  return picture_;
}

int64_t MediaReader::skip(int64_t count) {
  int64_t skipped = 0;
  while (skipped < count && (left_ > 0 || advance())) {
    const int64_t step = std::min(left_, count - skipped);
    left_ -= step;
    skipped += step;
  }
  return skipped;
}

std::optional<Picture> MediaReader::last() {
  if (left_ == 0 && !advance()) return std::nullopt;
  FramePtr frame;
  do {
    frame = std::move(current_);
  } while (advance());
  left_ = 0;
  return convert(*frame);
}

bool MediaReader::advance() {
  picture_.reset();
  if (!slots_) {
    current_ = decode();
    left_ = current_ ? 1 : 0;
    return left_ > 0;
  }
  const bool is_first = decoded_ == 0;
  if (is_first) {
    following_ = decode();
    if (following_) position_ = slots_->begin(*following_);
  }
  while (following_) {
    current_ = std::exchange(following_, decode());
    const int64_t end = following_ ? slots_->begin(*following_) : slots_->end();
    left_ = end - position_;
    if (is_first && !following_) left_ = std::max<int64_t>(left_, 1);  // a video has a picture, however short it is
    if (left_ <= 0) continue;
    position_ = end;
    return true;
  }
  left_ = 0;
  return false;
}

FramePtr MediaReader::decode() {
  FramePtr frame(not_null(av_frame_alloc()));
  if (!decoder_.decode(*frame)) return nullptr;
  if (decoded_++ == 0) measure(*frame);
  return frame;
}

// Finds out the size at which the first frame, and with it every other, is seen.
void MediaReader::measure(AVFrame& frame) {
  const Size stored{frame.width, frame.height};
  const AVRational aspect = decoder_.pixel_aspect(frame);
  const std::optional<Size> square = square_size(stored, aspect);
  if (!square && !decoder_.is_quiet()) {
    spdlog::warn("{}: says that its pixels are {} wide and {} high, which cannot be right; they are taken as square",
                 decoder_.path().string(), aspect.num, aspect.den);
  } else if (square && *square != stored && !decoder_.is_quiet()) {
    spdlog::info("{}: its pixels are {} wide and {} high; read as {}x{} square ones", decoder_.path().string(),
                 aspect.num, aspect.den, square->width, square->height);
  }
  size_ = square.value_or(stored);
  if (is_sideways(upright(frame))) std::swap(size_.width, size_.height);
}

Orientation MediaReader::upright(const AVFrame& frame) const {
  return is_image() ? exif_orientation_of(decoder_.tags().orientation) : orientation(frame, decoder_.stream());
}

Picture MediaReader::convert(const AVFrame& frame) {
  warn_of_interlacing(frame);
  const Orientation orientation = upright(frame);
  const Size stored = is_sideways(orientation) ? Size{size_.height, size_.width} : size_;
  return turn(scale(converter_.convert(frame), stored), orientation);
}

// Scales with Lanczos; the scaler is kept, as most pictures have one size.
Picture MediaReader::scale(Picture picture, Size size) {
  const Size stored{picture.width, picture.height};
  if (stored == size) return picture;
  if (!scaler_ || scaled_from_ != stored || scaled_to_ != size) {
    scaler_.emplace(scaled_from_ = stored, scaled_to_ = size, size);
  }
  const AVFrame& scaled = scaler_->scale(picture.rgb.data());
  constexpr size_t kRgbBytes = 3;
  const size_t row = size.width * kRgbBytes;
  picture = {size.width, size.height, std::vector<uint8_t>(row * size.height)};
  for (int y = 0; y < size.height; ++y) {
    std::memcpy(&picture.rgb[y * row], scaled.data[0] + static_cast<ptrdiff_t>(y) * scaled.linesize[0], row);
  }
  return picture;
}

void MediaReader::warn_of_interlacing(const AVFrame& frame) {
  if (is_image() || warned_of_interlacing_ || !decoder_.is_interlaced(frame)) return;
  warned_of_interlacing_ = true;
  spdlog::warn(
      "{}: is interlaced and is read as it is: what moves has combs for edges; deinterlace it first "
      "(ffmpeg -i {} -vf yadif out.mp4)",
      decoder_.path().string(), decoder_.path().filename().string());
}

ReadPicture read_picture(const std::filesystem::path& path, Position position, const PollCallback& poll) {
  MediaReader reader(path, {.poll = poll});
  if (reader.is_image()) {
    Picture picture = *reader.next();  // a file without any frame is an error
    if (reader.may_be_animated() && reader.skip() > 0) {
      spdlog::info("{}: is animated; its first frame is taken", path.string());
    }
    return {std::move(picture), true};
  }
  const bool is_last = position == Position::kLast;
  spdlog::info("{}: is a video; its {} frame is taken", path.string(), is_last ? "last" : "first");
  return {is_last ? *reader.last() : *reader.next(), false};
}

int64_t count_pictures(const std::filesystem::path& path, const ReadOptions& options) {
  return MediaReader(path, options).skip(std::numeric_limits<int64_t>::max());
}

}  // namespace opensora::media
