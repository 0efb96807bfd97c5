// Writes videos: H.264, H.265 or FFV1 in MP4, QuickTime or Matroska.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/output_file.h"
#include "media/ffmpeg.h"
#include "media/picture.h"
#include "opensora/video.h"

struct AVCodec;

namespace opensora::media {

// How a video is compressed, and in what container.
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

struct VideoOptions {
  int width = 0;  // pixels, of the frames handed in; 1 to 16384
  int height = 0;
  int output_width = 0;  // 0: as handed in; otherwise frames are scaled (Lanczos)
  int output_height = 0;
  FrameRate fps = 24;  // frames a second
  // The codec and the pixel format, as resolve_encoding() takes them.
  std::string codec = "h264";
  std::string pixel_format = {};
  // Constant rate factor of h264 and h265: 0 (best; with h264 in 8 bits lossless, which few players show) to 51
  // (worst). ffv1 has none.
  int crf = 18;
  int threads = 0;  // 0: as many as the encoder sees fit for the CPU
  // UTF-8 without a null character, of any length: the container's comment tag; empty: none.
  std::string comment = {};
};

// A video under construction: write() each frame in order, then finish().
//
// The container is told by the extension of the name: .mp4, .mov or .mkv. The file has exactly the frames that were
// written, the first at time 0, each for 1/fps; colours are tagged and converted as BT.709 in limited range, or are RGB
// as they came; in .mp4 and .mov the index comes first (faststart). The encoded size is the output size rounded up to
// what the pixel format's chroma needs (4:2:0: even); the edge is replicated into the extra row or column. The same
// frames, options and number of threads give the same bytes with the same build of FFmpeg and encoder.
//
// Without finish(), or after an error, the file does not appear and nothing of it stays.
class VideoWriter {
 public:
  // Throws UsageError for options out of range, OutputError as OutputFile does or if there is no such encoder.
  VideoWriter(const std::filesystem::path& path, const VideoOptions& options, bool overwrite);

  // `rgb24`: height x width x 3, packed; copied. Throws OutputError, also for a full disk.
  void write(const uint8_t* rgb24);

  // Whether frames may come as planes: those are encoded as yuv420p, and none is scaled.
  bool takes_yuv420p() const;
  // In place of write(), where takes_yuv420p(): the planes Y, U and V, packed one after the other, of the encoded size
  // (BT.709, limited range, chroma sited left; copied).
  void write_yuv420p(const uint8_t* planes);

  // Writes what the encoder still holds, opens the file again to check that it is what was asked for (verify_video()),
  // and gives it its name. Call once, after the last frame; throws OutputError if there was none, if the file cannot be
  // completed or is not whole, or as OutputFile::commit() does.
  void finish();
  // Does all of that except for the naming: for commit_together(), while this object lives.
  StagedFile complete();

  int64_t frames_written() const { return frames_written_; }

 private:
  VideoWriter(const std::filesystem::path& path, const VideoOptions& options, Encoding encoding, Size output,
              bool overwrite);
  void open_encoder();
  void set_up_encoder();
  void open_container();
  void write_header();
  void encode_next(AVFrame& frame);
  void encode(const AVFrame* frame);  // null: flush
  void verify() const;

  OutputFile file_;  // destroyed last: removes the temporary file after it is closed
  VideoOptions options_;
  Encoding encoding_;
  Size coded_;
  RgbScaler scaler_;
  FrameConverter converter_;
  CodecContextPtr encoder_;
  PacketPtr packet_;
  IoPtr io_;
  OutputFormatPtr format_;
  int64_t frames_written_ = 0;
};

}  // namespace opensora::media
