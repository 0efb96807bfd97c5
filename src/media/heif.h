// HEIF's still pictures (HEIC, AVIF): boxes around frames of HEVC or AV1.
#pragma once

#include <optional>
#include <string>

#include "media/ffmpeg.h"
#include "media/file_bytes.h"
#include "media/picture.h"

namespace opensora::media {

// Code points of ISO/IEC 23091-2, where 2 means unspecified.
struct HeifColours {
  int primaries = 2, transfer = 2, matrix = 2;
  bool is_full_range = false;
};

// The file's primary picture, as an elementary stream that FFmpeg's decoders take.
struct HeifPicture {
  std::string format;  // FFmpeg's demuxer: "hevc", "obu"
  std::string stream;  // a frame a tile, row by row
  int rows = 1, columns = 1;
  Size size;            // of the whole; what tiles have beyond it is cut off
  int orientation = 1;  // EXIF's, 1 to 8, of the boxes irot and imir together
  std::string icc;
  std::optional<HeifColours> colours;  // these count, and not what the stream says
};

// Returns nullopt for what is not HEIF, is a sequence or damaged, or needs what is not done here (overlays, a clean
// aperture, other codecs): FFmpeg may be able to read it. Throws nothing but std::bad_alloc.
std::optional<HeifPicture> read_heif(const ReadBytes& read);

// Puts the tiles of a HEIF picture together.
class HeifCanvas {
 public:
  explicit HeifCanvas(const HeifPicture& picture) : picture_(picture) {}  // which must outlive it

  // The next tile, row by row from the top left. False if there are too many, or if it is of another size or pixel
  // format than the first one, or the tiles do not cover the picture.
  bool add(const AVFrame& tile);

  // The picture, once all tiles are there: of its size, with its colours where the boxes tell them.
  void take(AVFrame& frame);

 private:
  bool begin(const AVFrame& tile);

  const HeifPicture& picture_;
  FramePtr canvas_;
  int width_ = 0, height_ = 0;  // of a tile
  int tiles_ = 0;
};

}  // namespace opensora::media
