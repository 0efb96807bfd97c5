// What the file of a picture says beside its pixels, told from its own bytes: FFmpeg passes on only some of it, and
// decodes a few kinds of files wrongly without a word.
#pragma once

#include <filesystem>
#include <string>

#include "media/file_bytes.h"

namespace opensora::media {

struct ImageTags {
  // As found, each empty if there is none.
  std::string exif;
  std::string xmp;
  std::string icc;  // the colour profile, uncompressed

  int orientation = 1;     // EXIF's, 1 to 8: from EXIF, else from XMP, else from the container
  std::string colours;     // what other tags than a profile say of colours that are not sRGB: "Display P3"; else empty
  bool is_opaque = false;  // what FFmpeg takes for transparency is none
  bool is_full_range = false;  // YUV of 0 to 255, whatever FFmpeg says
  bool is_inked = false;       // CMYK, which FFmpeg turns into RGB, rounding down
  std::string unreadable;      // why FFmpeg would decode it wrongly or not at all, "compression JPEG"; else empty
  std::string format;          // FFmpeg's demuxer, where it would take the file for something else
  bool is_damaged = false;     // and that for this reason
};

// Chunks, segments or boxes of a file that are looked at. No real picture has as many; one that is made of nothing else
// must not take minutes.
inline constexpr int kMostParts = 100000;

// Never throws but for memory: what is damaged counts as absent. Formats that are not known here have no tags.
ImageTags read_image_tags(const std::filesystem::path& path);

// One format each: `read` begins at the file's start, which has been recognised.
void read_png_tags(const ReadBytes& read, ImageTags& tags);
void read_jpeg_tags(const ReadBytes& read, ImageTags& tags);
void read_webp_tags(const ReadBytes& read, ImageTags& tags);
void read_tiff_tags(const ReadBytes& read, ImageTags& tags);
void read_jpeg2000_tags(const ReadBytes& read, ImageTags& tags);
void read_bmp_tags(const ReadBytes& read, ImageTags& tags);

// How code points of ISO/IEC 23091-2 are called where they are not sRGB's, or near it: "Display P3", "BT.2020 PQ".
std::string cicp_colours(int primaries, int transfer);

}  // namespace opensora::media
