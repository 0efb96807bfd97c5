// HEIF's still pictures (HEIC, AVIF): boxes around frames of HEVC or AV1.
#pragma once

#include <optional>
#include <string>

#include "media/file_bytes.h"
#include "media/scale.h"

namespace opensora::media {

// Code points of ISO/IEC 23091-2; 2: unspecified.
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

// nullopt for what is no HEIF, a sequence, damaged, or of a kind that is not put together here (overlays, a clean
// aperture, other codecs): FFmpeg may know. Never throws but for memory.
std::optional<HeifPicture> read_heif(const ReadBytes& read);

}  // namespace opensora::media
