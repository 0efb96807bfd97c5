// What a picture's file says beside its pixels, read from the file itself: FFmpeg passes on only some of it, and
// decodes a few kinds of files wrongly without reporting an error.
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
  bool is_damaged = false;     // whether it is unreadable because of damage
};

// Chunks, segments or boxes of a file that are looked at. No real picture has as many; one that is made of nothing else
// must not take minutes.
inline constexpr int kMostParts = 100000;

// Throws nothing but std::bad_alloc: what is damaged counts as absent. Formats that are not known here have no tags.
ImageTags read_image_tags(const std::filesystem::path& path);

// Each reads one format. `read` begins at the file's start, by which the format has been recognised.
void read_png_tags(const ReadBytes& read, ImageTags& tags);
void read_jpeg_tags(const ReadBytes& read, ImageTags& tags);
void read_webp_tags(const ReadBytes& read, ImageTags& tags);
void read_tiff_tags(const ReadBytes& read, ImageTags& tags);
void read_jpeg2000_tags(const ReadBytes& read, ImageTags& tags);
void read_bmp_tags(const ReadBytes& read, ImageTags& tags);

// The name of colours by their code points of ISO/IEC 23091-2, "Display P3" or "BT.2020 PQ"; empty for sRGB's and those
// near it.
std::string cicp_colours(int primaries, int transfer);

// How an ICC profile differs from sRGB: empty for one that is sRGB in effect, whoever made it: of RGB, or of grey,
// with sRGB's primaries (within what vendors round differently) and its curve (within 2 % of what is encoded). Else how
// it calls itself, "Display P3", on one line; for one that is damaged or has no name: "a colour profile without a
// name".
std::string other_than_srgb(const std::string& icc);

}  // namespace opensora::media
