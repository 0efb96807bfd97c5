// Pictures in memory: their sizes, how they are scaled, and the frames that encoders take.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "media/ffmpeg.h"

namespace opensora::media {

constexpr int kRgbBytes = 3;  // of a pixel in packed RGB24

// A picture in packed RGB24.
struct Picture {
  int width = 0;  // pixels
  int height = 0;
  std::vector<uint8_t> rgb;  // height x width x 3, packed
};

// In pixels.
struct Size {
  int width = 0;
  int height = 0;
  bool operator==(const Size&) const = default;
};

// `output`, where 0 means that of `input`. Throws UsageError unless all are 1 to 16384 (H.264's and our limit).
Size output_size(Size input, Size output);

// `size` rounded up to what the chroma planes of the pixel format (FFmpeg's name) need: even for "yuv420p".
Size coded_size(Size size, const std::string& pixel_format);

// Brings pictures to their final size (Lanczos) and copies them into a frame that FFmpeg may use: packed buffers lack
// the alignment, and the slack after the last row, that its SIMD code asks for.
class RgbScaler {
 public:
  // `canvas`: of the frame, at least `output`; the edge is replicated into the rest.
  RgbScaler(Size input, Size output, Size canvas);

  // `rgb24`: input.height x input.width x 3, packed. The result (RGB24, `canvas`) is valid until the next call.
  const AVFrame& scale(const uint8_t* rgb24);

 private:
  Size input_size_;
  Size output_size_;
  FramePtr canvas_;
  FramePtr input_;    // null if there is nothing to scale
  ScalerPtr scaler_;  // likewise
};

// Converts RGB24 to what an encoder takes: YUV of BT.709 in limited range, with subsampled chroma sited left as H.264
// assumes, or RGB with the values as they are.
class FrameConverter {
 public:
  // `pixel_format`: FFmpeg's name. `size`: as coded_size() has it.
  FrameConverter(Size size, const std::string& pixel_format);

  // The result carries the colour tags, is owned by the converter and valid until the next call.
  AVFrame& convert(const AVFrame& rgb);

  // For a converter to yuv420p: a frame of the planes Y, U and V as they are, packed one after the other, Y of the
  // converter's size, U and V of half of it each way. The result is as convert()'s.
  AVFrame& copy_yuv420p(const uint8_t* planes);

  // A frame as convert() gives them, for its format and its tags.
  const AVFrame& frame() const { return *frame_; }

 private:
  FramePtr frame_;
  ScalerPtr converter_;
};

// Frames of a video side by side in one picture: up to 12 frames, evenly spread from the first to the last, in rows of
// 4 from the top left, with black between them. They are scaled down so that the sheet is at most 1600 pixels wide,
// never up.
class ContactSheet {
 public:
  // For a video of so many frames (at least 1), each of that size.
  ContactSheet(int64_t frames, Size size);

  // Frame `t` (from 0; those that are not shown are passed over), `rgb24`: height x width x 3, packed.
  void add(int64_t t, const uint8_t* rgb24);

  const Picture& picture() const { return sheet_; }

 private:
  int64_t frames_;
  int shown_, columns_;
  Size cell_;
  RgbScaler scaler_;
  Picture sheet_;
};

}  // namespace opensora::media
