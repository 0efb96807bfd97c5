#include "opensora/video_info.h"

#include <algorithm>

#include "media/container_faults.h"
#include "media/ffmpeg.h"
#include "media/ffmpeg_functions.h"
#include "media/input.h"
#include "opensora/error.h"

namespace opensora {
namespace {

using namespace media;

// Matroska has tags of the file, MP4 too; others have them with the stream.
std::string comment_of(const AVFormatContext& format, const AVStream& stream) {
  for (const AVDictionary* tags : {format.metadata, stream.metadata}) {
    const AVDictionaryEntry* entry = av_dict_get(tags, "comment", nullptr, 0);
    if (entry != nullptr) return entry->value;
  }
  return {};
}

// What the packets tell: an index may promise what is not there.
struct Counted {
  int64_t frames = 0;
  int64_t first = INT64_MAX, end = INT64_MIN;  // in the stream's time base
};

void count(const AVPacket& packet, Counted& counted) {
  constexpr int kNotShown = AV_PKT_FLAG_CORRUPT | AV_PKT_FLAG_DISCARD;
  if ((packet.flags & kNotShown) != 0) return;
  ++counted.frames;
  if (packet.pts == AV_NOPTS_VALUE) return;
  counted.first = std::min(counted.first, packet.pts);
  counted.end = std::max(counted.end, packet.pts + packet.duration);
}

Counted count_packets(AVFormatContext& format, int index, const std::filesystem::path& path) {
  const PacketPtr packet(not_null(av_packet_alloc()));
  Counted counted;
  while (true) {
    const int result = av_read_frame(&format, packet.get());
    if (result == AVERROR_EOF) return counted;
    if (result < 0) throw_damaged(path, error_text(result));
    if (packet->stream_index == index) count(*packet, counted);
    av_packet_unref(packet.get());
  }
}

}  // namespace

VideoInfo read_video_info(const std::filesystem::path& path) {
  const Input input = open_input(path, {}, /*describe=*/true);
  const int index = find_video_stream(input, path);
  const AVStream& stream = *input.format->streams[index];
  const AVCodecParameters& parameters = *stream.codecpar;
  const char* pixel_format = av_get_pix_fmt_name(static_cast<AVPixelFormat>(parameters.format));

  VideoInfo info{.width = parameters.width,
                 .height = parameters.height,
                 .fps = frame_rate(input, index),
                 .codec = avcodec_get_name(parameters.codec_id),
                 .pixel_format = pixel_format == nullptr ? "" : pixel_format,
                 .comment = comment_of(*input.format, stream)};
  if (input.heif) {
    info.width = input.heif->size.width;
    info.height = input.heif->size.height;
  }
  const Counted counted = count_packets(*input.format, index, path);
  info.frames = is_still_format(input) ? std::min<int64_t>(counted.frames, 1) : counted.frames;
  if (counted.end > counted.first) {
    info.duration = static_cast<double>(counted.end - counted.first) * av_q2d(stream.time_base);
  }
  return info;
}

}  // namespace opensora
