#include "media/video_writer.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "opensora/error.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
}

namespace opensora::media {
namespace {

constexpr int kMaxFps = 1000;
constexpr int kMaxCrf = 51;

// All that can be wrong with the options, before anything is created. Returns the size of the picture.
Size check_options(const VideoOptions& options) {
  if (options.fps < 1 || options.fps > kMaxFps) {
    throw UsageError(fmt::format("{} frames a second: expected 1 to {}", options.fps, kMaxFps));
  }
  if (options.crf < 0 || options.crf > kMaxCrf) {
    throw UsageError(fmt::format("crf {}: expected 0 (lossless) to {} (worst)", options.crf, kMaxCrf));
  }
  if (options.threads < 0) throw UsageError(fmt::format("{} encoder threads: expected 0 or more", options.threads));
  if (options.comment.find('\0') != std::string::npos) {
    throw UsageError("the video's comment holds a null character, which the file cannot hold");
  }
  return output_size({options.width, options.height}, {options.output_width, options.output_height});
}

}  // namespace

VideoWriter::VideoWriter(const std::filesystem::path& path, const VideoOptions& options, bool overwrite)
    : VideoWriter(path, options, check_options(options), overwrite) {}

VideoWriter::VideoWriter(const std::filesystem::path& path, const VideoOptions& options, Size output, bool overwrite)
    : file_(path, overwrite),
      scaler_({options.width, options.height}, output, even_size(output)),
      converter_(even_size(output)),
      packet_(not_null(av_packet_alloc())) {
  init_logging();
  const Size coded = even_size(output);
  if (coded != output) {
    spdlog::debug("{}: {}x{} is encoded as {}x{}: 4:2:0 video needs even sizes", path.string(), output.width,
                  output.height, coded.width, coded.height);
  }
  open_encoder(options, coded);
  open_container(options);
}

void VideoWriter::open_encoder(const VideoOptions& options, Size size) {
  const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
  if (codec == nullptr) {
    throw OutputError(file_.path().string() +
                      ": this FFmpeg has no H.264 encoder; install a libavcodec that is built with libx264");
  }
  encoder_.reset(not_null(avcodec_alloc_context3(codec)));
  encoder_->width = size.width;
  encoder_->height = size.height;
  encoder_->pix_fmt = AV_PIX_FMT_YUV420P;
  encoder_->time_base = {1, options.fps};
  encoder_->framerate = {options.fps, 1};
  encoder_->thread_count = options.threads;
  encoder_->colorspace = AVCOL_SPC_BT709;
  encoder_->color_primaries = AVCOL_PRI_BT709;
  encoder_->color_trc = AVCOL_TRC_BT709;
  encoder_->color_range = AVCOL_RANGE_MPEG;
  encoder_->chroma_sample_location = AVCHROMA_LOC_LEFT;
  encoder_->flags |= AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_GLOBAL_HEADER;  // MP4 keeps SPS and PPS in its header
  check(av_opt_set_double(encoder_->priv_data, "crf", options.crf, 0), file_.path(), "set the encoder's crf");
  // x264's SIMD code for macroblock trees differs from CPU to CPU, and in build 164 its result depends on uninitialised
  // memory (small videos differ from run to run under MALLOC_PERTURB_). This makes it use the portable code there.
  check(av_opt_set(encoder_->priv_data, "x264-params", "cpu-independent=1", 0), file_.path(), "set up the encoder");
  check(avcodec_open2(encoder_.get(), codec, nullptr), file_.path(),
        fmt::format("open the H.264 encoder for {}x{} pixels", size.width, size.height));
}

void VideoWriter::open_container(const VideoOptions& options) {
  // Faststart reads the file again through its URL: it must be the temporary file's.
  AVFormatContext* format = nullptr;
  check(avformat_alloc_output_context2(&format, nullptr, "mp4", file_url(file_.temporary_path()).c_str()), file_.path(),
        "create an MP4");
  format_.reset(format);
  format_->flags |= AVFMT_FLAG_BITEXACT;  // no version of FFmpeg in the file

  AVStream* stream = not_null(avformat_new_stream(format_.get(), nullptr));
  check(avcodec_parameters_from_context(stream->codecpar, encoder_.get()), file_.path(), "describe the video stream");
  stream->time_base = encoder_->time_base;
  stream->avg_frame_rate = encoder_->framerate;

  if (!options.comment.empty()) {
    check(av_dict_set(&format_->metadata, "comment", options.comment.c_str(), 0), file_.path(), "describe the video");
  }
  io_ = open_file(file_.temporary_path(), file_.path());
  format_->pb = io_.get();

  // One time scale for file and track, a multiple of fps: with the default of milliseconds for the file, the edit list
  // would cut a fraction of the last frame. 24 fps: 24000.
  const int64_t time_scale = int64_t{1000} * options.fps;
  AVDictionary* settings = nullptr;
  av_dict_set(&settings, "movflags", "+faststart", 0);
  av_dict_set_int(&settings, "movie_timescale", time_scale, 0);
  av_dict_set_int(&settings, "video_track_timescale", time_scale, 0);
  const int result = avformat_write_header(format_.get(), &settings);
  av_dict_free(&settings);
  check(result, file_.path(), "write the MP4 header");
}

void VideoWriter::write(const uint8_t* rgb24) {
  AVFrame& frame = converter_.convert(scaler_.scale(rgb24));
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
    packet_->duration = 1;  // of 1/fps: x264 leaves it open and the muxer would guess
    packet_->stream_index = stream->index;
    av_packet_rescale_ts(packet_.get(), encoder_->time_base, stream->time_base);
    check(av_interleaved_write_frame(format_.get(), packet_.get()), file_.path(), "write");
  }
}

void VideoWriter::finish() {
  if (frames_written_ == 0) throw OutputError(file_.path().string() + ": a video needs at least one frame; got none");
  encode(nullptr);
  check(av_write_trailer(format_.get()), file_.path(), "write");
  format_.reset();
  close_file(std::move(io_), file_.path());
  file_.commit();
}

}  // namespace opensora::media
