#include "media/decoder.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "opensora/error.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

namespace opensora::media {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxEdge = 16384;  // as for what we write

bool is_too_large(Size size) { return std::max(size.width, size.height) > kMaxEdge; }

// Options that are freed in any case. FFmpeg takes those that it knows out of the dictionary.
struct Dictionary {
  AVDictionary* entries = nullptr;
  Dictionary() = default;
  Dictionary(const Dictionary&) = delete;
  Dictionary& operator=(const Dictionary&) = delete;
  ~Dictionary() { av_dict_free(&entries); }
};

void check_regular_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const std::string name = path.string();
  if (!fs::exists(status)) {
    if (std::regex_search(name, std::regex("^[A-Za-z][A-Za-z0-9+.-]*://"))) {
      throw InputMediaError(name + ": is a URL; only local files are read: download it and give the file");
    }
    throw InputMediaError(name +
                          ": cannot be read: " + (error ? error.message() : std::string("No such file or directory")));
  }
  if (fs::is_directory(status)) throw InputMediaError(name + ": is a folder; expected an image or a video file");
  if (!fs::is_regular_file(status)) {
    throw InputMediaError(name + ": is not a regular file; expected an image or a video file");
  }
  if (fs::file_size(path, error) == 0 && !error) throw InputMediaError(name + ": the file is empty");
}

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
  init_logging();
  check_regular_file(path_);
  open_input();
  open_decoder();
}

void Decoder::open_input() {
  // We open the file and do not tell the name: or FFmpeg would take "%03d" in it for a sequence of images, and believe
  // its extension. What a playlist refers to must be a local file too.
  Dictionary io_options, format_options;
  av_dict_set(&io_options.entries, "protocol_whitelist", "file", 0);
  av_dict_set(&format_options.entries, "protocol_whitelist", "file", 0);
  AVIOContext* io = nullptr;
  check_input(avio_open2(&io, file_url(path_).c_str(), AVIO_FLAG_READ, nullptr, &io_options.entries), path_, "be read");
  io_.reset(io);

  AVFormatContext* format = not_null(avformat_alloc_context());
  format->pb = io;
  const int opened = avformat_open_input(&format, nullptr, nullptr, &format_options.entries);  // frees it on failure
  check_input(opened, path_, "be read as an image or a video");
  format_.reset(format);
  is_image_ = is_image_format(format->iformat->name);

  // To learn its parameters FFmpeg may decode a frame: not an enormous one.
  std::vector<AVDictionary*> options(format->nb_streams);
  for (AVDictionary*& each : options) av_dict_set_int(&each, "max_pixels", int64_t{kMaxEdge} * kMaxEdge, 0);
  const int found = avformat_find_stream_info(format, options.empty() ? nullptr : options.data());
  for (AVDictionary*& each : options) av_dict_free(&each);
  check_input(found, path_, "be read as an image or a video");
}

void Decoder::open_decoder() {
  stream_index_ = av_find_best_stream(format_.get(), AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  if (stream_index_ < 0 || (stream().disposition & AV_DISPOSITION_ATTACHED_PIC) != 0) {  // that: an album's cover
    throw InputMediaError(
        fmt::format("{}: holds no image or video (its format is {})", path_.string(), format_->iformat->long_name));
  }
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

const AVStream& Decoder::stream() const { return *format_->streams[stream_index_]; }

bool Decoder::may_be_animated() const {
  const std::string_view name = format_->iformat->name;
  return name == "gif" || name == "apng";
}

double Decoder::fps() const {
  const AVRational rate = av_guess_frame_rate(format_.get(), format_->streams[stream_index_], nullptr);
  return rate.den > 0 ? std::max(0.0, av_q2d(rate)) : 0.0;
}

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
    const int result = av_read_frame(format_.get(), packet_.get());
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
                                    path_.string(), size.width, size.height, kMaxEdge));
}

}  // namespace opensora::media
