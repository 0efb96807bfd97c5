#include "media/video_writer.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/trace.h"
#include "media/ffmpeg.h"
#include "media/ffmpeg_functions.h"
#include "media/video_info.h"
#include "opensora/error.h"
#include "opensora/video.h"

namespace opensora::media {
namespace {

struct Codec {
  const char* name;
  const char* label;
  const char* ffmpeg_name;
  std::vector<const char*> encoders;  // for different pixel formats; the first one is required
  bool is_lossless;
  const char* extension;
};

const Codec& find_codec(const std::string& name) {
  static const std::vector<Codec> codecs = {{"h264", "H.264", "h264", {"libx264", "libx264rgb"}, false, ".mp4"},
                                            {"h265", "H.265", "hevc", {"libx265"}, false, ".mp4"},
                                            {"ffv1", "FFV1", "ffv1", {"ffv1"}, true, ".mkv"}};
  for (const Codec& codec : codecs) {
    if (name == codec.name) return codec;
  }
  throw UsageError("`codec`: expected h264, h265 or ffv1, found \"" + name + "\"");
}

// Old names for full range, which we do not write, and other orders of planes in memory that come out the same.
bool is_variant(std::string_view name) { return name.starts_with("yuvj") || name.starts_with("nv"); }

// Frames have no alpha.
bool is_offered(AVPixelFormat format) {
  const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(format);
  if (description == nullptr || is_variant(description->name)) return false;
  constexpr uint64_t kUnsuitable = AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_PAL;
  return (description->flags & kUnsuitable) == 0 && sws_isSupportedOutput(format) != 0;
}

std::vector<std::string> formats_of(const AVCodec* encoder) {
  std::vector<std::string> names;
  if (encoder == nullptr || encoder->pix_fmts == nullptr) return names;
  for (const AVPixelFormat* format = encoder->pix_fmts; *format != AV_PIX_FMT_NONE; ++format) {
    if (is_offered(*format)) names.emplace_back(av_get_pix_fmt_name(*format));
  }
  return names;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string wanted_format(const Codec& codec, const std::string& asked) {
  if (asked.empty() && !codec.is_lossless) return "yuv420p";
  if (!asked.empty() && asked != "rgb") return asked;
  const std::vector<std::string> offered = pixel_formats(codec.name);
  for (const char* rgb : {"gbrp", "bgr0", "rgb24"}) {
    if (contains(offered, rgb)) return rgb;
  }
  return "rgb";  // not offered: the error lists what is
}

const AVCodec* find_encoder(const Codec& codec, const std::string& pixel_format, const std::filesystem::path& path) {
  if (avcodec_find_encoder_by_name(codec.encoders.front()) == nullptr) {
    throw OutputError(fmt::format(
        "{}: this FFmpeg has no {} encoder; install a libavcodec that is built with {}, or give another `codec`",
        path.string(), codec.label, codec.encoders.front()));
  }
  for (const char* name : codec.encoders) {
    const AVCodec* encoder = avcodec_find_encoder_by_name(name);
    if (contains(formats_of(encoder), pixel_format)) return encoder;
  }
  throw UsageError(fmt::format("`pix_fmt` {}: this FFmpeg's {} encoder takes rgb, {}", pixel_format, codec.label,
                               fmt::join(pixel_formats(codec.name), ", ")));
}

std::string find_muxer(const std::filesystem::path& path, const Codec& codec) {
  const std::string extension = path.extension();
  if (extension == ".mp4" && codec.is_lossless) {
    throw UsageError(
        fmt::format("`output` {}: {} does not go into .mp4; name a .mkv instead", path.string(), codec.label));
  }
  if (extension == ".mp4") return "mp4";
  if (extension == ".mov") return "mov";
  if (extension == ".mkv") return "matroska";
  throw UsageError(
      fmt::format("`output` {}: a video is written as .mp4, .mov or .mkv, found \"{}\"", path.string(), extension));
}

AVRational rational(const FrameRate& rate) {
  return {static_cast<int>(rate.numerator), static_cast<int>(rate.denominator)};
}

// Of file and track alike, a multiple of the rate's numerator so that each frame begins at a whole number: 24000 for 24
// frames a second, 24000 for 24000/1001. QuickTime's clocks want to be fine.
int64_t time_scale(const FrameRate& rate) {
  constexpr int64_t kFine = 10000;
  if (rate.is_whole()) return 1000 * rate.numerator;
  int64_t scale = rate.numerator;
  while (scale < kFine) scale *= 10;
  return scale;
}

// All that can be wrong with the options, before anything is created. Returns the size of the picture.
Size check_options(const VideoOptions& options) {
  if (!options.fps.is_valid()) {
    throw UsageError(fmt::format("{} frames a second: expected 1 to {}", to_string(options.fps), kMaxFps));
  }
  if (options.crf < 0 || options.crf > kMaxCrf) {
    throw UsageError(fmt::format("crf {}: expected 0 (best) to {} (worst)", options.crf, kMaxCrf));
  }
  if (options.threads < 0) throw UsageError(fmt::format("{} encoder threads: expected 0 or more", options.threads));
  if (options.comment.find('\0') != std::string::npos) {
    throw UsageError("the video's comment holds a null character, which the file cannot hold");
  }
  return output_size({options.width, options.height}, {options.output_width, options.output_height});
}

}  // namespace

Encoding resolve_encoding(const std::filesystem::path& path, const std::string& codec,
                          const std::string& pixel_format) {
  const Codec& found = find_codec(codec);
  Encoding encoding{.label = found.label,
                    .codec = found.ffmpeg_name,
                    .pixel_format = wanted_format(found, pixel_format),
                    .muxer = find_muxer(path, found),
                    .is_lossless = found.is_lossless};
  encoding.encoder = find_encoder(found, encoding.pixel_format, path);
  return encoding;
}

// x265's own limits, found by trying: its blocks of 16 pixels go into pictures of at most so many.
void check_encodable(const Encoding& encoding, Size coded) {
  constexpr int kSmallest = 16, kNarrow = 32, kLongestOfNarrow = 4096;
  if (encoding.codec != "hevc") return;
  const auto [least, most] = std::minmax(coded.width, coded.height);
  if (least >= kNarrow || (least >= kSmallest && most <= kLongestOfNarrow)) return;
  throw UsageError(fmt::format(
      "`codec` h265: a picture of {}x{} pixels cannot be encoded: expected at least {} each way, and {} where "
      "a side is longer than {}; give another size or `codec` h264",
      coded.width, coded.height, kSmallest, kNarrow, kLongestOfNarrow));
}

std::vector<std::string> pixel_formats(const std::string& codec) {
  std::vector<std::string> all;
  for (const char* name : find_codec(codec).encoders) {
    const std::vector<std::string> formats = formats_of(avcodec_find_encoder_by_name(name));
    all.insert(all.end(), formats.begin(), formats.end());
  }
  return all;
}

double raw_bits_per_pixel(const std::string& pixel_format) {
  const AVPixFmtDescriptor* format = not_null(av_pix_fmt_desc_get(av_get_pix_fmt(pixel_format.c_str())));
  double bits = 0;
  for (int component = 0; component < format->nb_components; ++component) {
    const bool is_chroma = format->nb_components >= 3 && (component == 1 || component == 2);
    const int shift = is_chroma ? format->log2_chroma_w + format->log2_chroma_h : 0;
    bits += static_cast<double>(format->comp[component].depth) / (1 << shift);
  }
  return bits;
}

std::string default_extension(const std::string& codec) { return find_codec(codec).extension; }

VideoWriter::VideoWriter(const std::filesystem::path& path, const VideoOptions& options, bool overwrite)
    : VideoWriter(path, options, resolve_encoding(path, options.codec, options.pixel_format), check_options(options),
                  overwrite) {}

VideoWriter::VideoWriter(const std::filesystem::path& path, const VideoOptions& options, Encoding encoding, Size output,
                         bool overwrite)
    : file_(path, overwrite),
      options_(options),
      encoding_(std::move(encoding)),
      coded_(coded_size(output, encoding_.pixel_format)),
      scaler_({options.width, options.height}, output, coded_),
      converter_(coded_, encoding_.pixel_format),
      packet_(not_null(av_packet_alloc())) {
  init_logging();
  if (coded_ != output) {
    spdlog::debug("{}: {}x{} is encoded as {}x{}, as {} needs", path.string(), output.width, output.height,
                  coded_.width, coded_.height, encoding_.pixel_format);
  }
  open_encoder();
  open_container();
}

void VideoWriter::open_encoder() {
  const AVFrame& frame = converter_.frame();
  encoder_.reset(not_null(avcodec_alloc_context3(encoding_.encoder)));
  encoder_->width = coded_.width;
  encoder_->height = coded_.height;
  encoder_->pix_fmt = static_cast<AVPixelFormat>(frame.format);
  encoder_->framerate = rational(options_.fps);
  encoder_->time_base = {encoder_->framerate.den, encoder_->framerate.num};
  encoder_->thread_count = options_.threads;
  encoder_->colorspace = frame.colorspace;
  encoder_->color_primaries = frame.color_primaries;
  encoder_->color_trc = frame.color_trc;
  encoder_->color_range = frame.color_range;
  encoder_->chroma_sample_location = frame.chroma_location;
  // The container keeps the parameter sets in its header.
  encoder_->flags |= AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_GLOBAL_HEADER;
  set_up_encoder();
  check(avcodec_open2(encoder_.get(), encoding_.encoder, nullptr), file_.path(),
        fmt::format("open the {} encoder for {}x{} pixels of {}", encoding_.label, coded_.width, coded_.height,
                    encoding_.pixel_format));
}

void VideoWriter::set_up_encoder() {
  const auto set = [&](const char* name, const std::string& value) {
    check(av_opt_set(encoder_->priv_data, name, value.c_str(), 0), file_.path(), "set up the encoder");
  };
  if (encoding_.is_lossless) {
    // Version 3 with checksums, every frame for itself. The number of slices is fixed, or threads might change it.
    constexpr int kWorthSlices = 64;  // pixels each way
    encoder_->level = 3;
    encoder_->gop_size = 1;
    encoder_->slices = std::min(coded_.width, coded_.height) >= kWorthSlices ? 4 : 1;
    set("slicecrc", "1");
    return;
  }
  check(av_opt_set_double(encoder_->priv_data, "crf", options_.crf, 0), file_.path(), "set the encoder's crf");
  if (encoding_.codec == "h264") {
    // x264's SIMD code for macroblock trees differs from CPU to CPU, and in build 164 its result depends on
    // uninitialised memory (small videos differ from run to run under MALLOC_PERTURB_). This makes it use the portable
    // code there.
    set("x264-params", "cpu-independent=1");
  } else {
    // x265 would print to stderr, and write what machine it ran on into the video.
    const std::string threads = options_.threads > 0 ? fmt::format(":pools={}", options_.threads) : "";
    set("x265-params", "log-level=none:info=0" + threads);
  }
}

void VideoWriter::open_container() {
  // Faststart reads the file again through its URL: it must be the temporary file's.
  AVFormatContext* format = nullptr;
  check(avformat_alloc_output_context2(&format, nullptr, encoding_.muxer.c_str(),
                                       file_url(file_.temporary_path()).c_str()),
        file_.path(), fmt::format("create a video ({})", encoding_.muxer));
  format_.reset(format);
  format_->flags |= AVFMT_FLAG_BITEXACT;  // no version of FFmpeg in the file

  const bool is_matroska = encoding_.muxer == "matroska";
  AVStream* stream = not_null(avformat_new_stream(format_.get(), nullptr));
  check(avcodec_parameters_from_context(stream->codecpar, encoder_.get()), file_.path(), "describe the video stream");
  // Apple's players show H.265 only under this name.
  if (encoding_.codec == "hevc" && !is_matroska) stream->codecpar->codec_tag = MKTAG('h', 'v', 'c', '1');
  stream->time_base = encoder_->time_base;
  stream->avg_frame_rate = encoder_->framerate;
  if (!options_.comment.empty()) {
    check(av_dict_set(&format_->metadata, "comment", options_.comment.c_str(), 0), file_.path(), "describe the video");
  }
  io_ = open_file(file_.temporary_path(), file_.path());
  format_->pb = io_.get();
  write_header();
}

void VideoWriter::write_header() {
  AVDictionary* settings = nullptr;
  if (encoding_.muxer != "matroska") {
    // One time scale for file and track: with the default of milliseconds for the file, the edit list would cut a
    // fraction of the last frame.
    const int64_t scale = time_scale(options_.fps);
    // QuickTime's own tags hold at most 64 KiB.
    const bool is_quicktime = encoding_.muxer == "mov";
    av_dict_set(&settings, "movflags", is_quicktime ? "+faststart+use_metadata_tags" : "+faststart", 0);
    av_dict_set_int(&settings, "movie_timescale", scale, 0);
    av_dict_set_int(&settings, "video_track_timescale", scale, 0);
  }
  const int result = avformat_write_header(format_.get(), &settings);
  av_dict_free(&settings);
  check(result, file_.path(), "write the header");
}

void VideoWriter::write(const uint8_t* rgb24) { encode_next(converter_.convert(scaler_.scale(rgb24))); }

bool VideoWriter::takes_yuv420p() const {
  const Size input{options_.width, options_.height};
  return encoding_.pixel_format == "yuv420p" &&
         output_size(input, {options_.output_width, options_.output_height}) == input;
}

void VideoWriter::write_yuv420p(const uint8_t* planes) { encode_next(converter_.copy_yuv420p(planes)); }

void VideoWriter::encode_next(AVFrame& frame) {
  const TraceSpan span("frame", frames_written_);
  frame.pts = frames_written_;
  encode(&frame);
  ++frames_written_;
}

void VideoWriter::encode(const AVFrame* frame) {
  check(avcodec_send_frame(encoder_.get(), frame), file_.path(), "encode a frame");
  const AVStream* stream = format_->streams[0];
  while (true) {
    const int result = avcodec_receive_packet(encoder_.get(), packet_.get());
    if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) return;
    check(result, file_.path(), "encode a frame");
    packet_->duration = 1;  // of 1/fps: x264 and x265 leave it open and the muxer would guess
    // x265 leaves the decoding times of a video unset that is shorter than its delay for reordering.
    constexpr int64_t kDelay = 2;
    if (encoding_.codec == "hevc" && frames_written_ <= kDelay) packet_->dts = packet_->pts - kDelay;
    packet_->stream_index = stream->index;
    av_packet_rescale_ts(packet_.get(), encoder_->time_base, stream->time_base);
    check(av_interleaved_write_frame(format_.get(), packet_.get()), file_.path(), "write");
  }
}

void VideoWriter::finish() {
  const StagedFile file = complete();
  commit_together({&file, 1});
}

StagedFile VideoWriter::complete() {
  if (frames_written_ == 0) throw OutputError(file_.path().string() + ": a video needs at least one frame; got none");
  encode(nullptr);
  check(av_write_trailer(format_.get()), file_.path(), "write");
  format_.reset();
  close_file(std::move(io_), file_.path());
  verify();
  return file_.staged();
}

void VideoWriter::verify() const {
  const VideoInfo expected{.width = coded_.width,
                           .height = coded_.height,
                           .frames = frames_written_,
                           .duration = static_cast<double>(frames_written_) / options_.fps.value(),
                           .codec = encoding_.codec,
                           .pixel_format = {},
                           .comment = options_.comment};
  verify_video(file_.temporary_path(), expected, file_.path());
}

}  // namespace opensora::media
