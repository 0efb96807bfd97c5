#include "support/read_video.h"

#include <stdexcept>

#include "media/ffmpeg.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

namespace opensora::test {
namespace {

using namespace opensora::media;

int require(int result, const std::filesystem::path& file) {
  if (result < 0) throw std::runtime_error(file.string() + ": cannot be read: " + error_text(result));
  return result;
}

std::string name(const char* text) { return text == nullptr ? "" : text; }

InputFormatPtr open_input(const std::filesystem::path& file) {
  AVFormatContext* format = nullptr;
  require(avformat_open_input(&format, file_url(file).c_str(), nullptr, nullptr), file);
  InputFormatPtr input(format);
  require(avformat_find_stream_info(format, nullptr), file);
  return input;
}

CodecContextPtr open_decoder(const AVStream& stream, const std::filesystem::path& file) {
  const AVCodec* codec = avcodec_find_decoder(stream.codecpar->codec_id);
  if (codec == nullptr) throw std::runtime_error(file.string() + ": no decoder");
  CodecContextPtr decoder(not_null(avcodec_alloc_context3(codec)));
  require(avcodec_parameters_to_context(decoder.get(), stream.codecpar), file);
  decoder->err_recognition = AV_EF_EXPLODE;
  require(avcodec_open2(decoder.get(), codec, nullptr), file);
  return decoder;
}

DecodedVideo describe(const AVStream& stream) {
  const AVCodecParameters& parameters = *stream.codecpar;
  DecodedVideo video;
  video.width = parameters.width;
  video.height = parameters.height;
  video.fps = av_q2d(stream.avg_frame_rate);
  video.duration = static_cast<double>(stream.duration) * av_q2d(stream.time_base);
  video.codec = avcodec_get_name(parameters.codec_id);
  video.pixel_format = name(av_get_pix_fmt_name(static_cast<AVPixelFormat>(parameters.format)));
  video.color_space = name(av_color_space_name(parameters.color_space));
  video.color_primaries = name(av_color_primaries_name(parameters.color_primaries));
  video.color_transfer = name(av_color_transfer_name(parameters.color_trc));
  video.color_range = name(av_color_range_name(parameters.color_range));
  video.chroma_location = name(av_chroma_location_name(parameters.chroma_location));
  return video;
}

std::vector<uint8_t> to_rgb24(const AVFrame& frame) {
  const auto format = static_cast<AVPixelFormat>(frame.format);
  const ScalerPtr scaler(
      not_null(sws_getContext(frame.width, frame.height, format, frame.width, frame.height, AV_PIX_FMT_RGB24,
                              SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, nullptr, nullptr, nullptr)));
  if (frame.colorspace != AVCOL_SPC_RGB) {
    const int* matrix = sws_getCoefficients(frame.colorspace);
    sws_setColorspaceDetails(scaler.get(), matrix, frame.color_range == AVCOL_RANGE_JPEG, matrix, 1, 0, 1 << 16,
                             1 << 16);
  }
  // Slack for swscale's SIMD code, which may write a little more than the last row.
  constexpr size_t kSlack = 64;
  std::vector<uint8_t> rgb(static_cast<size_t>(frame.width) * frame.height * 3 + kSlack);
  uint8_t* const planes[] = {rgb.data()};
  const int strides[] = {frame.width * 3};
  sws_scale(scaler.get(), frame.data, frame.linesize, 0, frame.height, planes, strides);
  return {rgb.begin(), rgb.end() - kSlack};
}

std::vector<uint8_t> luma_plane(const AVFrame& frame) {
  const AVPixFmtDescriptor* description = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  std::vector<uint8_t> luma;
  if ((description->flags & AV_PIX_FMT_FLAG_RGB) != 0) return luma;
  for (int y = 0; y < frame.height; ++y) {
    const uint8_t* row = frame.data[0] + static_cast<ptrdiff_t>(y) * frame.linesize[0];
    luma.insert(luma.end(), row, row + frame.width);
  }
  return luma;
}

}  // namespace

DecodedVideo read_video(const std::filesystem::path& file) {
  init_logging();
  const InputFormatPtr input = open_input(file);
  const int index = require(av_find_best_stream(input.get(), AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0), file);
  const AVStream& stream = *input->streams[index];
  const CodecContextPtr decoder = open_decoder(stream, file);
  const PacketPtr packet(not_null(av_packet_alloc()));
  const FramePtr frame(not_null(av_frame_alloc()));

  DecodedVideo video = describe(stream);
  const auto take_frames = [&] {
    while (true) {
      const int result = avcodec_receive_frame(decoder.get(), frame.get());
      if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) return;
      require(result, file);
      const double time = static_cast<double>(frame->best_effort_timestamp) * av_q2d(stream.time_base);
      video.frames.push_back({to_rgb24(*frame), luma_plane(*frame), time});
    }
  };
  int result = 0;
  while ((result = av_read_frame(input.get(), packet.get())) >= 0) {
    if (packet->stream_index == index) {
      require(avcodec_send_packet(decoder.get(), packet.get()), file);
      take_frames();
    }
    av_packet_unref(packet.get());
  }
  if (result != AVERROR_EOF) require(result, file);
  require(avcodec_send_packet(decoder.get(), nullptr), file);
  take_frames();
  return video;
}

}  // namespace opensora::test
