// Writes an MP4: H.264, 4:2:0, BT.709.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/output_file.h"
#include "media/ffmpeg.h"
#include "media/scale.h"

namespace opensora::media {

struct VideoOptions {
  int width = 0;  // pixels, of the frames handed in; 1 to 16384
  int height = 0;
  int output_width = 0;  // 0: as handed in; otherwise frames are scaled (Lanczos)
  int output_height = 0;
  int fps = 24;     // frames a second, 1 to 1000
  int crf = 18;     // x264's constant rate factor: 0 (lossless; few players show it) to 51 (worst)
  int threads = 0;  // 0: as many as x264 sees fit for the CPU
  // UTF-8 without a null character, of any length: the container's comment tag; empty: none.
  std::string comment = {};
};

// A video under construction: write() each frame in order, then finish().
//
// The file has exactly the frames that were written, the first at time 0, each for 1/fps; colours are tagged and
// converted as BT.709 in limited range; the index comes first (faststart). The encoded size is the output size rounded
// up to even, as 4:2:0 needs; the edge is replicated into the extra row or column. The same frames, options and number
// of threads give the same bytes with the same build of FFmpeg and x264.
//
// Without finish(), or after an error, the file does not appear and nothing of it stays.
class VideoWriter {
 public:
  // Throws UsageError for options out of range, OutputError as OutputFile does or if there is no H.264 encoder.
  VideoWriter(const std::filesystem::path& path, const VideoOptions& options, bool overwrite);

  // `rgb24`: height x width x 3, packed; copied. Throws OutputError, also for a full disk.
  void write(const uint8_t* rgb24);

  // Writes what the encoder still holds and gives the file its name. Call once, after the last frame; throws
  // OutputError if there was none, if the file cannot be completed, or as OutputFile::commit() does.
  void finish();

  int64_t frames_written() const { return frames_written_; }

 private:
  VideoWriter(const std::filesystem::path& path, const VideoOptions& options, Size output, bool overwrite);
  void open_encoder(const VideoOptions& options, Size size);
  void open_container(const VideoOptions& options);
  void encode(const AVFrame* frame);  // null: flush

  OutputFile file_;  // destroyed last: removes the temporary file after it is closed
  RgbScaler scaler_;
  Yuv420Converter converter_;
  CodecContextPtr encoder_;
  PacketPtr packet_;
  IoPtr io_;
  OutputFormatPtr format_;
  int64_t frames_written_ = 0;
};

}  // namespace opensora::media
