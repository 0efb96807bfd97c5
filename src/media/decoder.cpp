#include "media/decoder.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/local_file.h"
#include "media/container_faults.h"
#include "media/ffmpeg_functions.h"
#include "opensora/error.h"
#include "opensora/video.h"

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

namespace fs = std::filesystem;

bool is_too_large(Size size) { return std::max(size.width, size.height) > kMaxEdge; }

bool is_image_format(std::string_view name) {
  return name.ends_with("_pipe") || name == "image2" || name == "gif" || name == "apng" || name == "ico";
}

// Whether it is a recording of a broadcast or a stream, which may begin and break anywhere.
bool is_transport_stream(const AVFormatContext& format) { return (format.iformat->flags & AVFMT_TS_DISCONT) != 0; }

// Whether FFmpeg finds out by itself which packets are key frames, and has nothing to decode from without one.
bool needs_key_frame(const AVFormatContext& format, AVCodecID codec) {
  const std::string_view name = format.iformat->name;
  const bool is_parsed = is_transport_stream(format) || name == "h264" || name == "hevc" || name == "mpegvideo";
  return is_parsed && (codec == AV_CODEC_ID_H264 || codec == AV_CODEC_ID_HEVC || codec == AV_CODEC_ID_MPEG2VIDEO ||
                       codec == AV_CODEC_ID_MPEG1VIDEO);
}

// FFmpeg's name; or, where it has none, the four letters by which the file calls its codec.
std::string codec_name(const AVCodecParameters& parameters) {
  if (parameters.codec_id != AV_CODEC_ID_NONE || parameters.codec_tag == 0) {
    return avcodec_get_name(parameters.codec_id);
  }
  std::string letters;
  for (int shift = 0; shift < 32; shift += 8) {
    const auto letter = static_cast<char>(parameters.codec_tag >> shift & 0xff);
    letters += letter >= ' ' && letter <= '~' ? letter : '?';
  }
  return '"' + letters + '"';
}

std::string_view bytes(const AVPacket& packet) {
  return {reinterpret_cast<const char*>(packet.data), static_cast<size_t>(packet.size)};
}

// A JPEG ends with FF D9. Progressive ones that were cut between two scans decode without an error, but blurred.
bool is_complete_jpeg(std::string_view data) {
  using namespace std::string_view_literals;
  const size_t scan = data.rfind("\xff\xda"sv);  // in compressed data FF is followed by 00 or a restart marker
  return scan == std::string_view::npos || data.find("\xff\xd9"sv, scan) != std::string_view::npos;
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

Decoder::Decoder(const fs::path& path, PollCallback poll, bool quiet)
    : path_(local_file(path.string())), packet_(not_null(av_packet_alloc())), is_quiet_(quiet) {
  input_ = open_input(path_, std::move(poll));
  if (!input_.tags.unreadable.empty()) throw_unreadable(path_, input_.tags, "");
  is_image_ = input_.heif.has_value() || is_image_format(input_.format->iformat->name);
  open_decoder();
  errors_.watch(this);
  errors_.watch(input_.format.get());
  clock_.emplace(*input_.format, stream(), frame_ticks());
  has_key_frame_ = is_image_ || !needs_key_frame(*input_.format, decoder_->codec_id);
}

Decoder::~Decoder() {
  const std::string error = errors_.first();
  if (is_image_ || is_quiet_ || error.empty() || std::uncaught_exceptions() > 0) return;
  spdlog::warn("{}: FFmpeg finds it damaged or cut off ({}); a frame may not be as it was", path_.string(), error);
}

void Decoder::open_decoder() {
  stream_index_ = find_video_stream(input_, path_);
  const AVCodecParameters& parameters = *stream().codecpar;
  const AVCodec* codec = avcodec_find_decoder(parameters.codec_id);
  if (codec == nullptr) {
    throw InputMediaError(
        fmt::format("{}: FFmpeg {} has no decoder for its codec ({}); convert the file to PNG or H.264", path_.string(),
                    ffmpeg_version(), codec_name(parameters)));
  }
  if (const Size size{parameters.width, parameters.height}; is_too_large(size)) throw_too_large(size);
  decoder_.reset(not_null(avcodec_alloc_context3(codec)));
  check_input(avcodec_parameters_to_context(decoder_.get(), &parameters), path_, "be decoded");
  decoder_->pkt_timebase = stream().time_base;
  decoder_->max_pixels = kMaxEdge * kMaxEdge;
  decoder_->opaque = this;
  decoder_->get_buffer2 = allocate_frame;
  if (is_image_) {
    decoder_->err_recognition = AV_EF_CRCCHECK;
    // Half a picture is an error. For TIFF this would refuse every tag that FFmpeg ignores: see decode_next().
    if (codec->id != AV_CODEC_ID_TIFF) decoder_->err_recognition |= AV_EF_EXPLODE;
    decoder_->thread_count = 1;  // an error belongs to the packet just sent
  } else {
    decoder_->thread_count = 0;  // as many as FFmpeg sees fit for the CPU. Damage is seen by check_frame().
    constexpr int64_t kLargeFrame = int64_t{8192} * 4352;  // pixels; a frame for each thread would fill the memory
    if (int64_t{parameters.width} * parameters.height > kLargeFrame) decoder_->thread_type = FF_THREAD_SLICE;
  }
  check_input(avcodec_open2(decoder_.get(), codec, nullptr), path_, "be decoded");
}

const AVStream& Decoder::stream() const { return *input_.format->streams[stream_index_]; }

bool Decoder::may_be_animated() const {
  const std::string_view name = input_.format->iformat->name;
  return name == "gif" || name == "apng";
}

double Decoder::fps() const { return frame_rate(input_, stream_index_); }

AVRational Decoder::pixel_aspect(AVFrame& frame) const {
  const AVRational aspect =
      av_guess_sample_aspect_ratio(input_.format.get(), input_.format->streams[stream_index_], &frame);
  return aspect.num > 0 && aspect.den > 0 ? aspect : AVRational{1, 1};
}

bool Decoder::is_interlaced(const AVFrame& frame) const {
  const AVFieldOrder order = stream().codecpar->field_order;
  return frame.interlaced_frame != 0 || (order != AV_FIELD_UNKNOWN && order != AV_FIELD_PROGRESSIVE);
}

int Decoder::allocate_frame(AVCodecContext* context, AVFrame* frame, int flags) {
  const Size size{frame->width, frame->height};
  if (!is_too_large(size)) return avcodec_default_get_buffer2(context, frame, flags);
  static_cast<Decoder*>(context->opaque)->refused_size_ = size;
  return AVERROR(ERANGE);
}

bool Decoder::decode(AVFrame& frame) {
  if (frames_ > 0 && is_still_format(input_)) return false;
  return input_.heif ? decode_tiles(frame) : decode_next(frame);
}

// Decodes HEIC and AVIF: a frame as large as the picture, put together from its tiles.
bool Decoder::decode_tiles(AVFrame& frame) {
  const HeifPicture& heif = *input_.heif;
  if (is_too_large(heif.size)) throw_too_large(heif.size);
  HeifCanvas canvas(heif);
  for (int tile = 0; tile < heif.rows * heif.columns; ++tile) {
    const FramePtr next(not_null(av_frame_alloc()));
    if (!decode_next(*next) || !canvas.add(*next)) throw_damaged("tiles are missing or of different kinds");
  }
  canvas.take(frame);
  return true;
}

bool Decoder::decode_next(AVFrame& frame) {
  while (true) {
    const int result = avcodec_receive_frame(decoder_.get(), &frame);
    if (result == AVERROR_EOF) {
      check_found_frames();
      return false;
    }
    if (result == AVERROR(EAGAIN)) {
      const int sent = avcodec_send_packet(decoder_.get(), send_packet() ? packet_.get() : nullptr);
      if (sent < 0) throw_decoding_failed(sent);
      continue;
    }
    if (result < 0) throw_decoding_failed(result);
    check_frame(frame);
    // Without AV_EF_EXPLODE, FFmpeg leaves out the strips of a TIFF that it cannot decode, and only says so.
    if (decoder_->codec_id == AV_CODEC_ID_TIFF && !errors_.first().empty()) throw_damaged(errors_.first());
    ++frames_;
    return true;
  }
}

bool Decoder::send_packet() {
  while (true) {
    av_packet_unref(packet_.get());
    const int result = av_read_frame(input_.format.get(), packet_.get());
    input_.interruption->check();
    if (result == AVERROR_EOF) return false;
    if (result < 0) throw_damaged(error_text(result));
    if (packet_->stream_index != stream_index_ || is_before_key_frame()) continue;
    check_packet();
    clock_->correct(*packet_);
    ++packets_;
    return true;
  }
}

bool Decoder::is_before_key_frame() {
  if (has_key_frame_) return false;
  has_key_frame_ = (packet_->flags & AV_PKT_FLAG_KEY) != 0;
  if (!has_key_frame_) {
    ++left_out_;
  } else if (left_out_ > 0 && !is_quiet_) {
    spdlog::warn("{}: begins between two key frames; its first {} frame(s) cannot be decoded and are left out",
                 path_.string(), left_out_);
  }
  return !has_key_frame_;
}

void Decoder::check_found_frames() const {
  if (frames_ > 0) return;
  if (left_out_ > 0 && !has_key_frame_) {
    throw InputMediaError(fmt::format(
        "{}: none of its {} frame(s) is a key frame, without which they cannot be decoded: its beginning is missing",
        path_.string(), left_out_));
  }
  const std::string fault = container_fault(path_);
  throw InputMediaError(path_.string() + ": " + (fault.empty() ? "holds no frame that can be decoded" : fault));
}

void Decoder::check_packet() {
  if (av_packet_get_side_data(packet_.get(), AV_PKT_DATA_ENCRYPTION_INFO, nullptr) != nullptr) throw_encrypted(path_);
  bool cut = (packet_->flags & AV_PKT_FLAG_CORRUPT) != 0;
  if (cut && is_transport_stream(*input_.format)) {  // says no more than that numbers of its packets do not follow
    cut = false;
    if (!std::exchange(warned_of_break_, true) && !is_quiet_) {
      spdlog::warn("{}: packets are missing near frame {}, or recordings were joined there; a frame may be damaged",
                   path_.string(), packets_);
    }
  }
  if (cut || (stream().codecpar->codec_id == AV_CODEC_ID_MJPEG && is_image_ && !is_complete_jpeg(bytes(*packet_)))) {
    throw_damaged("");
  }
}

void Decoder::check_frame(const AVFrame& frame) const {
  const Size size{frame.width, frame.height};
  if (is_too_large(size)) throw_too_large(size);  // some codecs allocate in their own way
  if (frame.decode_error_flags != 0 || (frame.flags & AV_FRAME_FLAG_CORRUPT) != 0) {
    throw InputMediaError(
        fmt::format("{}: frame {} is damaged; repair or encode the video again", path_.string(), frames_));
  }
}

// `reason` is FFmpeg's, if it has one.
void Decoder::throw_damaged(const std::string& reason) const {
  const bool has_place = !is_image_ && packets_ > 0;
  media::throw_damaged(path_, reason, has_place ? fmt::format("; found near frame {}", packets_) : "");
}

void Decoder::throw_decoding_failed(int error) const {
  if (const Size refused = refused_size_; refused != Size{}) throw_too_large(refused);
  if (stream().codecpar->codec_id == AV_CODEC_ID_WEBP && bytes(*packet_).find("ANMF") != std::string_view::npos) {
    throw InputMediaError(
        fmt::format("{}: is an animated WebP, which FFmpeg {} cannot decode; convert it to GIF or PNG", path_.string(),
                    ffmpeg_version()));
  }
  const std::string what = is_image_ ? "the image" : fmt::format("frame {}", frames_);
  throw InputMediaError(fmt::format(
      "{}: {} cannot be decoded ({}): {}; the file is damaged, truncated or of a kind that FFmpeg {} cannot read",
      path_.string(), what, avcodec_get_name(decoder_->codec_id), error_text(error), ffmpeg_version()));
}

void Decoder::throw_too_large(Size size) const {
  throw InputMediaError(fmt::format("{}: is of {}x{} pixels; expected at most {} each way: scale it down",
                                    path_.string(), size.width, size.height, kMaxEdge));
}

}  // namespace opensora::media
