#include "support/write_media.h"

#include <cstring>
#include <stdexcept>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
}

namespace opensora::test {
namespace {

using namespace opensora::media;

int require_to(int result, const std::string& action) {
  if (result < 0) throw std::runtime_error("cannot " + action + ": " + error_text(result));
  return result;
}

CodecContextPtr open_encoder(const MediaSpec& spec, const AVFrame& first, bool global_header) {
  const AVCodec* codec = avcodec_find_encoder_by_name(spec.codec.c_str());
  if (codec == nullptr) throw std::runtime_error("no encoder " + spec.codec);
  CodecContextPtr encoder(not_null(avcodec_alloc_context3(codec)));
  encoder->width = first.width;
  encoder->height = first.height;
  encoder->pix_fmt = static_cast<AVPixelFormat>(first.format);
  encoder->time_base = {1, spec.fps * spec.ticks};
  encoder->framerate = {spec.fps, 1};
  encoder->sample_aspect_ratio = {spec.pixel_aspect.first, spec.pixel_aspect.second};
  if (spec.top_field_first) {
    encoder->flags |= AV_CODEC_FLAG_INTERLACED_DCT | AV_CODEC_FLAG_INTERLACED_ME;
    encoder->field_order = AV_FIELD_TT;
  }
  encoder->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL;  // JPEG in limited range
  if (!spec.color_space.empty()) {
    encoder->colorspace = static_cast<AVColorSpace>(av_color_space_from_name(spec.color_space.c_str()));
  }
  if (!spec.color_range.empty()) {
    encoder->color_range = static_cast<AVColorRange>(av_color_range_from_name(spec.color_range.c_str()));
  }
  if (!spec.color_transfer.empty()) {
    encoder->color_trc =
        static_cast<AVColorTransferCharacteristic>(av_color_transfer_from_name(spec.color_transfer.c_str()));
  }
  if (global_header) encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  for (const auto& [name, value] : spec.options) {
    require_to(av_opt_set(encoder->priv_data, name.c_str(), value.c_str(), 0), "set " + name);
  }
  require_to(avcodec_open2(encoder.get(), codec, nullptr), "open " + spec.codec);
  return encoder;
}

void write_packets(AVFormatContext& output, AVCodecContext& encoder, const AVFrame* frame, int duration) {
  const PacketPtr packet(not_null(av_packet_alloc()));
  require_to(avcodec_send_frame(&encoder, frame), "encode");
  while (true) {
    const int result = avcodec_receive_packet(&encoder, packet.get());
    if (result == AVERROR(EAGAIN) || result == AVERROR_EOF) return;
    require_to(result, "encode");
    packet->duration = duration;
    av_packet_rescale_ts(packet.get(), encoder.time_base, output.streams[0]->time_base);
    require_to(av_interleaved_write_frame(&output, packet.get()), "write");
  }
}

void add_rotation(AVStream& stream, int degrees) {
  uint8_t* matrix = av_stream_new_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, 9 * sizeof(int32_t));
  av_display_rotation_set(reinterpret_cast<int32_t*>(not_null(matrix)), degrees);
}

}  // namespace

FramePtr make_frame(const std::string& pixel_format, int width, int height, const Fill& fill,
                    const std::vector<uint32_t>& palette) {
  FramePtr frame(not_null(av_frame_alloc()));
  const AVPixelFormat format = av_get_pix_fmt(pixel_format.c_str());
  const AVPixFmtDescriptor* description = not_null(av_pix_fmt_desc_get(format));
  frame->format = format;
  frame->width = width;
  frame->height = height;
  require_to(av_frame_get_buffer(frame.get(), 0), "allocate a frame");
  for (const AVBufferRef* buffer : frame->buf) {
    if (buffer != nullptr) std::memset(buffer->data, 0, buffer->size);  // av_write_image_line2() adds to what is there
  }
  for (int component = 0; component < description->nb_components; ++component) {
    const bool is_chroma =
        (component == 1 || component == 2) && (description->flags & AV_PIX_FMT_FLAG_RGB) == 0 && palette.empty();
    const int columns = is_chroma ? -(-width >> description->log2_chroma_w) : width;
    const int rows = is_chroma ? -(-height >> description->log2_chroma_h) : height;
    std::vector<uint16_t> line(columns);
    for (int y = 0; y < rows; ++y) {
      for (int x = 0; x < columns; ++x) line[x] = static_cast<uint16_t>(fill(x, y, component));
      av_write_image_line2(line.data(), frame->data, frame->linesize, description, 0, y, component, columns, 2);
    }
  }
  for (size_t i = 0; i < palette.size(); ++i) reinterpret_cast<uint32_t*>(frame->data[1])[i] = palette[i];
  return frame;
}

bool has_encoder(const std::string& name) { return avcodec_find_encoder_by_name(name.c_str()) != nullptr; }

void write_media(const std::filesystem::path& path, const MediaSpec& spec, const std::vector<FramePtr>& frames) {
  init_logging();
  AVFormatContext* format = nullptr;
  require_to(avformat_alloc_output_context2(&format, nullptr, spec.muxer.c_str(), nullptr), "create " + spec.muxer);
  const OutputFormatPtr output(format);
  const CodecContextPtr encoder = open_encoder(spec, *frames.at(0), (format->oformat->flags & AVFMT_GLOBALHEADER) != 0);
  AVStream* stream = not_null(avformat_new_stream(format, nullptr));
  require_to(avcodec_parameters_from_context(stream->codecpar, encoder.get()), "describe the stream");
  stream->time_base = encoder->time_base;
  stream->avg_frame_rate = encoder->framerate;
  stream->sample_aspect_ratio = encoder->sample_aspect_ratio;
  if (spec.rotation != 0) add_rotation(*stream, spec.rotation);

  IoPtr io = open_file(path, path);
  format->pb = io.get();
  for (const auto& [name, value] : spec.muxer_options) {
    require_to(av_opt_set(format, name.c_str(), value.c_str(), AV_OPT_SEARCH_CHILDREN), "set " + name);
  }
  require_to(avformat_write_header(format, nullptr), "write the header");
  for (size_t i = 0; i < frames.size(); ++i) {
    frames[i]->pts = spec.stamps.empty() ? static_cast<int64_t>(i) * spec.ticks : spec.stamps.at(i);
    frames[i]->interlaced_frame = frames[i]->top_field_first = spec.top_field_first ? 1 : 0;
    frames[i]->sample_aspect_ratio = encoder->sample_aspect_ratio;
    write_packets(*format, *encoder, frames[i].get(), spec.ticks);
  }
  write_packets(*format, *encoder, nullptr, spec.ticks);
  require_to(av_write_trailer(format), "finish the file");
  close_file(std::move(io), path);
}

std::string with_exif_orientation(const std::string& jpeg, int orientation) {
  using namespace std::string_literals;
  const std::string tiff =
      "MM\0*\0\0\0\x08"s  // big-endian, directory at 8
      "\0\x01"s           // of one entry:
      "\x01\x12\0\x03\0\0\0\x01\0"s +
      static_cast<char>(orientation) +
      "\0\0"s       // tag 274, SHORT
      "\0\0\0\0"s;  // no directory follows
  const std::string body = "Exif\0\0"s + tiff;
  const std::string segment = "\xff\xe1\0"s + static_cast<char>(body.size() + 2) + body;
  return jpeg.substr(0, 2) + segment + jpeg.substr(2);
}

}  // namespace opensora::test
