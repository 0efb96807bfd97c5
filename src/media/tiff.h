// The tags of TIFF, which EXIF has too.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "media/file_bytes.h"

namespace opensora::media {

// The entries of one directory. Whatever is damaged counts as absent: nothing here throws.
class TiffDirectory {
 public:
  // The first directory of a TIFF structure that begins at offset 0; nullopt for what is none (BigTIFF, for one).
  static std::optional<TiffDirectory> open(ReadBytes read);

  bool has(uint16_t tag) const { return entries_.contains(tag); }

  // The whole numbers of a tag, whichever integral type they have, at most 65536 of them; empty if it is absent.
  std::vector<uint64_t> numbers(uint16_t tag) const;
  // Its first number.
  uint64_t number(uint16_t tag, uint64_t absent) const;
  // What it holds, as bytes: texts, XMP, profiles. At most 16 MiB.
  std::string bytes(uint16_t tag) const;

  // The directory whose offset a tag holds (EXIF's own, one of interoperability).
  std::optional<TiffDirectory> directory(uint16_t tag) const;

 private:
  struct Entry {
    uint16_t type = 0;
    uint64_t count = 0;
    uint64_t offset = 0;  // of the values, from the structure's start
  };

  TiffDirectory(ReadBytes read, bool is_big_endian) : read_(std::move(read)), is_big_endian_(is_big_endian) {}
  uint64_t integer(std::string_view text, size_t size) const;
  bool parse(uint64_t offset);

  ReadBytes read_;
  bool is_big_endian_;
  std::map<uint16_t, Entry> entries_;
};

// EXIF's Orientation (1 to 8) from an EXIF block, with or without "Exif\0\0" in front. 0 if the block has none, 1 if
// its value has no meaning.
int exif_orientation(const std::string& block);

// The same from XMP, where Pillow finds it: tiff:Orientation, an attribute or an element.
int xmp_orientation(const std::string& xmp);

}  // namespace opensora::media
