#include "media/encoding.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "media/ffmpeg.h"
#include "media/ffmpeg_functions.h"
#include "opensora/error.h"

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
  throw UsageError("--codec: expected h264, h265 or ffv1, found \"" + name + "\"");
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
        "{}: this FFmpeg has no {} encoder; install a libavcodec that is built with {}, or give another --codec",
        path.string(), codec.label, codec.encoders.front()));
  }
  for (const char* name : codec.encoders) {
    const AVCodec* encoder = avcodec_find_encoder_by_name(name);
    if (contains(formats_of(encoder), pixel_format)) return encoder;
  }
  throw UsageError(fmt::format("--pix-fmt {}: this FFmpeg's {} encoder takes rgb, {}", pixel_format, codec.label,
                               fmt::join(pixel_formats(codec.name), ", ")));
}

std::string find_muxer(const std::filesystem::path& path, const Codec& codec) {
  const std::string extension = path.extension();
  if (extension == ".mp4" && codec.is_lossless) {
    throw UsageError(fmt::format("-o {}: {} does not go into .mp4; name a .mkv instead", path.string(), codec.label));
  }
  if (extension == ".mp4") return "mp4";
  if (extension == ".mov") return "mov";
  if (extension == ".mkv") return "matroska";
  throw UsageError(
      fmt::format("-o {}: a video is written as .mp4, .mov or .mkv, found \"{}\"", path.string(), extension));
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
      "--codec h265: a picture of {}x{} pixels cannot be encoded: expected at least {} each way, and {} where "
      "a side is longer than {}; give another size or --codec h264",
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

}  // namespace opensora::media
