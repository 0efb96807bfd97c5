#include "media/decoder.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "media/ffmpeg_functions.h"
#include "opensora/error.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;

bool is_too_large(Size size) { return std::max(size.width, size.height) > kMaxInputEdge; }

bool is_image_format(std::string_view name) {
  return name.ends_with("_pipe") || name == "image2" || name == "gif" || name == "apng" || name == "ico";
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

Decoder::Decoder(fs::path path) : path_(std::move(path)), packet_(not_null(av_packet_alloc())) {
  input_ = open_input(path_);
  is_image_ = is_image_format(input_.format->iformat->name);
  open_decoder();
}

void Decoder::open_decoder() {
  stream_index_ = find_video_stream(input_, path_);
  const AVCodecParameters& parameters = *stream().codecpar;
  const AVCodec* codec = avcodec_find_decoder(parameters.codec_id);
  if (codec == nullptr) {
    throw InputMediaError(
        fmt::format("{}: FFmpeg {} has no decoder for its codec ({}); convert the file to PNG or H.264", path_.string(),
                    ffmpeg_version(), avcodec_get_name(parameters.codec_id)));
  }
  decoder_.reset(not_null(avcodec_alloc_context3(codec)));
  check_input(avcodec_parameters_to_context(decoder_.get(), &parameters), path_, "be decoded");
  decoder_->pkt_timebase = stream().time_base;
  decoder_->opaque = this;
  decoder_->get_buffer2 = allocate_frame;
  if (is_image_) {
    decoder_->err_recognition = AV_EF_CRCCHECK;
    // Half a picture is an error. TIFF reports it in any case; there this would refuse every tag that FFmpeg ignores.
    if (codec->id != AV_CODEC_ID_TIFF) decoder_->err_recognition |= AV_EF_EXPLODE;
    decoder_->thread_count = 1;  // an error belongs to the packet just sent
  } else {
    decoder_->thread_count = 0;  // as many as FFmpeg sees fit for the CPU. Damage is seen by check_frame().
  }
  check_input(avcodec_open2(decoder_.get(), codec, nullptr), path_, "be decoded");
}

const AVStream& Decoder::stream() const { return *input_.format->streams[stream_index_]; }

bool Decoder::may_be_animated() const {
  const std::string_view name = input_.format->iformat->name;
  return name == "gif" || name == "apng";
}

double Decoder::fps() const { return frame_rate(input_, stream_index_); }

int Decoder::allocate_frame(AVCodecContext* context, AVFrame* frame, int flags) {
  const Size size{frame->width, frame->height};
  if (!is_too_large(size)) return avcodec_default_get_buffer2(context, frame, flags);
  static_cast<Decoder*>(context->opaque)->refused_size_ = size;
  return AVERROR(ERANGE);
}

bool Decoder::decode(AVFrame& frame) {
  while (true) {
    const int result = avcodec_receive_frame(decoder_.get(), &frame);
    if (result == AVERROR_EOF) {
      if (frames_ == 0) throw InputMediaError(path_.string() + ": holds no frame that can be decoded");
      return false;
    }
    if (result == AVERROR(EAGAIN)) {
      const int sent = avcodec_send_packet(decoder_.get(), send_packet() ? packet_.get() : nullptr);
      if (sent < 0) throw_decoding_failed(sent);
      continue;
    }
    if (result < 0) throw_decoding_failed(result);
    check_frame(frame);
    ++frames_;
    return true;
  }
}

bool Decoder::send_packet() {
  while (true) {
    av_packet_unref(packet_.get());
    const int result = av_read_frame(input_.format.get(), packet_.get());
    if (result == AVERROR_EOF) return false;
    check_input(result, path_, fmt::format("be read beyond frame {}: the file is damaged or truncated", frames_));
    if (packet_->stream_index != stream_index_) continue;
    check_packet();
    return true;
  }
}

void Decoder::check_packet() const {
  const bool cut = (packet_->flags & AV_PKT_FLAG_CORRUPT) != 0;
  if (cut || (stream().codecpar->codec_id == AV_CODEC_ID_MJPEG && is_image_ && !is_complete_jpeg(bytes(*packet_)))) {
    throw InputMediaError(path_.string() + ": the file is damaged or truncated");
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

void Decoder::throw_decoding_failed(int error) const {
  if (const Size refused = refused_size_; refused != Size{}) throw_too_large(refused);
  if (stream().codecpar->codec_id == AV_CODEC_ID_WEBP && bytes(*packet_).find("ANMF") != std::string_view::npos) {
    throw InputMediaError(
        fmt::format("{}: is an animated WebP, which FFmpeg {} cannot decode; convert it to GIF or PNG", path_.string(),
                    ffmpeg_version()));
  }
  throw InputMediaError(fmt::format("{}: {} cannot be decoded ({}): {}; the file is damaged or truncated",
                                    path_.string(),
                                    is_image_ ? std::string("the image") : fmt::format("frame {}", frames_),
                                    avcodec_get_name(decoder_->codec_id), error_text(error)));
}

void Decoder::throw_too_large(Size size) const {
  throw InputMediaError(fmt::format("{}: is of {}x{} pixels; expected at most {} each way: scale it down",
                                    path_.string(), size.width, size.height, kMaxInputEdge));
}

}  // namespace opensora::media
