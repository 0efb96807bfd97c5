#include "media/png_writer.h"

#include "core/output_file.h"
#include "media/ffmpeg.h"
#include "media/ffmpeg_functions.h"
#include "media/scale.h"
#include "opensora/error.h"

namespace opensora::media {
namespace {

PacketPtr encode_frame(const AVFrame& frame, const std::filesystem::path& path) {
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
  if (codec == nullptr) {
    throw OutputError(path.string() + ": this FFmpeg has no PNG encoder; install a libavcodec that is built with zlib");
  }
  CodecContextPtr encoder(not_null(avcodec_alloc_context3(codec)));
  encoder->width = frame.width;
  encoder->height = frame.height;
  encoder->pix_fmt = AV_PIX_FMT_RGB24;
  encoder->time_base = {1, 1};
  encoder->thread_count = 1;
  check(av_opt_set(encoder->priv_data, "pred", "mixed", 0), path, "set up the PNG encoder");  // much smaller files
  check(avcodec_open2(encoder.get(), codec, nullptr), path, "open the PNG encoder");

  PacketPtr packet(not_null(av_packet_alloc()));
  check(avcodec_send_frame(encoder.get(), &frame), path, "encode the picture");
  check(avcodec_send_frame(encoder.get(), nullptr), path, "encode the picture");
  check(avcodec_receive_packet(encoder.get(), packet.get()), path, "encode the picture");
  return packet;
}

}  // namespace

std::string encode_png(const std::filesystem::path& path, const uint8_t* rgb24, int width, int height, int output_width,
                       int output_height) {
  init_logging();
  const Size input{width, height};
  const Size output = output_size(input, {output_width, output_height});
  RgbScaler scaler(input, output, /*canvas=*/output);
  const PacketPtr packet = encode_frame(scaler.scale(rgb24), path);
  return {reinterpret_cast<const char*>(packet->data), static_cast<size_t>(packet->size)};
}

void write_png(const std::filesystem::path& path, const uint8_t* rgb24, int width, int height, bool overwrite,
               int output_width, int output_height) {
  OutputFile file(path, overwrite);
  write_content(file.staged(), encode_png(path, rgb24, width, height, output_width, output_height));
  file.commit();
}

}  // namespace opensora::media
