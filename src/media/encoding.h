// How a video is compressed, and in what container.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "media/scale.h"

struct AVCodec;

namespace opensora::media {

struct Encoding {
  const AVCodec* encoder = nullptr;
  std::string label;         // for messages: "H.264"
  std::string codec;         // FFmpeg's name of what comes out: "h264", "hevc", "ffv1"
  std::string pixel_format;  // FFmpeg's name
  std::string muxer;         // "mp4", "mov", "matroska"
  bool is_lossless = false;  // has no crf
};

// `codec`: "h264" (x264), "h265" (x265) or "ffv1" (lossless). `pixel_format`: one of pixel_formats(codec), or "rgb" for
// the codec's RGB of 8 bits; empty: "yuv420p", and "rgb" for ffv1, which keeps the frames exactly. The container is
// told by the extension: .mp4, .mov, .mkv; FFV1 goes into .mkv or .mov. Throws UsageError, which lists what there is,
// and OutputError if this FFmpeg lacks the encoder.
Encoding resolve_encoding(const std::filesystem::path& path, const std::string& codec, const std::string& pixel_format);

// Throws UsageError for pictures of a size (coded_size()) that the encoder does not take.
void check_encodable(const Encoding& encoding, Size coded);

// FFmpeg's names of what this FFmpeg's encoder takes, without alpha. Throws UsageError for an unknown codec.
std::vector<std::string> pixel_formats(const std::string& codec);

// Bits a pixel before compression, chroma included: 12 of yuv420p, 24 of rgb24, 30 of yuv444p10le.
double raw_bits_per_pixel(const std::string& pixel_format);

// ".mp4", or ".mkv" for ffv1. Throws UsageError for an unknown codec.
std::string default_extension(const std::string& codec);

}  // namespace opensora::media
