#include "media/video_info.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

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

// Frames and duration as the packets tell them: an index may promise what is not there.
void count_packets(AVFormatContext& format, const AVStream& stream, const std::filesystem::path& path,
                   VideoInfo& info) {
  constexpr int kNotShown = AV_PKT_FLAG_CORRUPT | AV_PKT_FLAG_DISCARD;
  int64_t first = INT64_MAX, end = INT64_MIN;  // in the stream's time base
  for (const PacketPtr packet(not_null(av_packet_alloc()));; av_packet_unref(packet.get())) {
    const int result = av_read_frame(&format, packet.get());
    if (result == AVERROR_EOF) break;
    if (result < 0) throw_damaged(path, error_text(result));
    if (packet->stream_index != stream.index || (packet->flags & kNotShown) != 0) continue;
    ++info.frames;
    if (packet->pts == AV_NOPTS_VALUE) continue;
    first = std::min(first, packet->pts);
    end = std::max(end, packet->pts + packet->duration);
  }
  if (end > first) info.duration = static_cast<double>(end - first) * av_q2d(stream.time_base);
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
  count_packets(*input.format, stream, path, info);
  if (info.frames == 0) throw_damaged(path, "", "");
  if (is_still_format(input)) info.frames = std::min<int64_t>(info.frames, 1);
  return info;
}

}  // namespace opensora

namespace opensora::media {
namespace {

constexpr double kTolerance = 0.002;  // seconds

VideoInfo read_again(const std::filesystem::path& file, const std::filesystem::path& name) {
  try {
    return read_video_info(file);
  } catch (const InputMediaError& error) {
    throw OutputError(
        fmt::format("{}: the file that was written cannot be read again: {}", name.string(), error.what()));
  }
}

}  // namespace

void verify_video(const std::filesystem::path& file, const VideoInfo& expected, const std::filesystem::path& name) {
  const VideoInfo found = read_again(file, name);
  const auto differs = [&](std::string_view what, const std::string& wanted, const std::string& there) {
    throw OutputError(
        fmt::format("{}: the file that was written is not whole: expected {} {}, found {}; is the disk "
                    "full or damaged?",
                    name.string(), what, wanted, there));
  };
  if (found.codec != expected.codec) differs("codec", expected.codec, found.codec);
  if (found.width != expected.width || found.height != expected.height) {
    differs("size", fmt::format("{}x{}", expected.width, expected.height),
            fmt::format("{}x{}", found.width, found.height));
  }
  if (found.frames != expected.frames) {
    differs("frames", fmt::format("{}", expected.frames), fmt::format("{}", found.frames));
  }
  if (!(std::abs(found.duration - expected.duration) <= kTolerance)) {
    differs("seconds", fmt::format("{:.3f}", expected.duration), fmt::format("{:.3f}", found.duration));
  }
  if (found.comment != expected.comment) {
    differs("comment of", fmt::format("{} bytes", expected.comment.size()),
            found.comment.size() == expected.comment.size() ? "another text"
                                                            : fmt::format("{} bytes", found.comment.size()));
  }
}

}  // namespace opensora::media
