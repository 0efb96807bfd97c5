// PNG's chunks: https://www.w3.org/TR/png-3/
#include <spdlog/fmt/fmt.h>

#include <cstdlib>
#include <optional>
#include <string_view>

#include "media/ffmpeg_functions.h"
#include "media/image_tags.h"

namespace opensora::media {
namespace {

using namespace std::string_view_literals;

constexpr size_t kLargestChunk = size_t{16} << 20;  // of a chunk that is looked at, and of what it is inflated to

// FFmpeg's PNG decoder needs zlib, too: it is there.
constinit const LazyFunction<int(unsigned char*, unsigned long*, const unsigned char*, unsigned long)> uncompress(
    "libz.so.1", "uncompress");

// Empty for what is damaged or too large.
std::string inflate(std::string_view compressed) {
  constexpr int kOk = 0, kBufferTooSmall = -5;
  for (size_t size = size_t{64} << 10; size <= kLargestChunk; size *= 4) {
    std::string text(size, '\0');
    unsigned long length = size;
    const int result = uncompress(reinterpret_cast<unsigned char*>(text.data()), &length,
                                  reinterpret_cast<const unsigned char*>(compressed.data()), compressed.size());
    if (result == kOk) return text.substr(0, length);
    if (result != kBufferTooSmall) return {};
  }
  return {};
}

// Takes what lies before the next NUL, and the NUL, off `text`.
std::string_view take_word(std::string_view& text) {
  const size_t end = text.find('\0');
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return word;
}

// ImageMagick's way before PNG had eXIf: a line feed, a name, a length, then hexadecimal digits, in lines.
std::string decode_raw_profile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  std::string digits, bytes;
  for (const char c : text) {
    if (c != '\n') digits += c;
  }
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    char* end = nullptr;
    const std::string pair = digits.substr(i, 2);
    const long value = std::strtol(pair.c_str(), &end, 16);
    if (*end != '\0') return {};
    bytes += static_cast<char>(value);
  }
  return bytes;
}

void use_text(std::string_view keyword, std::string text, ImageTags& tags, std::string& legacy_exif) {
  if (keyword == "XML:com.adobe.xmp") {
    tags.xmp = std::move(text);
  } else if (keyword == "Raw profile type exif") {
    legacy_exif = decode_raw_profile(text);
  }
}

// iTXt: keyword, whether it is compressed, language, translated keyword, text.
void use_international_text(std::string_view data, ImageTags& tags, std::string& legacy_exif) {
  const std::string_view keyword = take_word(data);
  if (data.size() < 2) return;
  const bool is_compressed = data[0] != 0;
  data.remove_prefix(2);
  take_word(data);
  take_word(data);
  use_text(keyword, is_compressed ? inflate(data) : std::string(data), tags, legacy_exif);
}

// What older and weaker chunks say, by rank.
struct Colours {
  bool is_srgb = false;
  std::optional<std::string> cicp;
  uint64_t gamma = 0;  // 100000 times the exponent by which values were encoded; 0: not said
  bool has_other_primaries = false;
};

bool has_srgb_chromaticities(std::string_view data) {
  constexpr uint64_t kTolerance = 1000;
  constexpr uint64_t kExpected[] = {31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000};
  for (size_t i = 0; i < std::size(kExpected); ++i) {
    const uint64_t found = big_endian(data.substr(std::min(data.size(), i * 4)), 4);
    if (found + kTolerance < kExpected[i] || found > kExpected[i] + kTolerance) return false;
  }
  return true;
}

std::string describe(const Colours& colours) {
  constexpr uint64_t kSrgbGamma = 45455, kTolerance = 1500;
  if (colours.cicp) return *colours.cicp;
  if (colours.is_srgb) return {};
  if (colours.has_other_primaries) return "primaries of its own (cHRM)";
  if (colours.gamma == 0 || (colours.gamma > kSrgbGamma - kTolerance && colours.gamma < kSrgbGamma + kTolerance)) {
    return {};
  }
  return fmt::format("a gamma of {:.2f} (gAMA)", 1e5 / static_cast<double>(colours.gamma));
}

bool is_wanted(std::string_view type) {
  for (const std::string_view wanted :
       {"eXIf"sv, "iTXt"sv, "tEXt"sv, "zTXt"sv, "iCCP"sv, "sRGB"sv, "gAMA"sv, "cHRM"sv, "cICP"sv}) {
    if (type == wanted) return true;
  }
  return false;
}

void use_chunk(std::string_view type, std::string_view data, ImageTags& tags, Colours& colours,
               std::string& legacy_exif) {
  if (type == "eXIf") {
    tags.exif = data;
  } else if (type == "iTXt") {
    use_international_text(data, tags, legacy_exif);
  } else if (type == "tEXt") {
    const std::string_view keyword = take_word(data);
    use_text(keyword, std::string(data), tags, legacy_exif);
  } else if (type == "zTXt" || type == "iCCP") {
    const std::string_view keyword = take_word(data);
    if (data.empty()) return;
    data.remove_prefix(1);  // the method: there is one
    if (type == "iCCP") {
      tags.icc = inflate(data);
    } else if (keyword.starts_with("Raw profile")) {
      use_text(keyword, inflate(data), tags, legacy_exif);
    }
  } else if (type == "sRGB") {
    colours.is_srgb = true;
  } else if (type == "gAMA") {
    colours.gamma = big_endian(data, 4);
  } else if (type == "cHRM") {
    colours.has_other_primaries = data.size() >= 32 && !has_srgb_chromaticities(data);
  } else if (type == "cICP" && data.size() >= 2) {
    colours.cicp = cicp_colours(static_cast<uint8_t>(data[0]), static_cast<uint8_t>(data[1]));
  }
}

}  // namespace

void read_png_tags(const ReadBytes& read, ImageTags& tags) {
  constexpr size_t kHead = 8;  // of a chunk: length and type; the checksum follows its data
  Colours colours;
  std::string legacy_exif;
  uint64_t at = 8;
  for (int part = 0; part < kMostParts; ++part) {
    const std::string head = read(at, kHead);
    if (head.size() < kHead) break;
    const uint64_t length = big_endian(head, 4);
    const std::string type = head.substr(4);
    if (type == "IEND") break;
    if (type == "CgBI") tags.unreadable = "written for iPhones only (CgBI)";
    if (is_wanted(type) && length <= kLargestChunk) {
      use_chunk(type, read(at + kHead, length), tags, colours, legacy_exif);
    }
    at += kHead + length + 4;
  }
  if (tags.exif.empty()) tags.exif = legacy_exif;
  if (colours.cicp) tags.icc.clear();  // the one that counts
  tags.colours = describe(colours);
}

}  // namespace opensora::media
