#include "media/image_tags.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "core/file_kind.h"
#include "media/tiff.h"

namespace opensora::media {
namespace {

using namespace std::string_view_literals;

constexpr size_t kLargestPiece = size_t{16} << 20;  // of what is looked at in one piece

// For a JPEG with others behind it, which a phone made: they are no frames of a video.
constexpr const char* kSeveralPictures = "jpeg_pipe";

// The parts of a profile that did not fit into one segment, by their number.
using ProfileParts = std::map<int, std::string>;

void use_jpeg_segment(uint8_t marker, std::string_view data, ImageTags& tags, ProfileParts& profile) {
  constexpr auto kExif = "Exif\0"sv, kXmp = "http://ns.adobe.com/xap/1.0/\0"sv, kIcc = "ICC_PROFILE\0"sv,
                 kMultiPicture = "MPF\0"sv;
  if (marker == 0xe1 && data.starts_with(kExif) && tags.exif.empty()) {
    tags.exif = data;
  } else if (marker == 0xe1 && data.starts_with(kXmp) && tags.xmp.empty()) {
    tags.xmp = data.substr(kXmp.size());
  } else if (marker == 0xe2 && data.starts_with(kIcc) && data.size() > kIcc.size() + 2) {
    profile[static_cast<uint8_t>(data[kIcc.size()])] = data.substr(kIcc.size() + 2);
  } else if (marker == 0xe2 && data.starts_with(kMultiPicture)) {
    tags.format = kSeveralPictures;
  }
}

// SOFn: precision, height, width, the number of components; for each its name, sampling factors (4 bits each), table.
void use_jpeg_frame(uint8_t marker, std::string_view data, ImageTags& tags) {
  const bool is_lossless = marker == 0xc3;
  if (marker >= 0xc5 && marker <= 0xc7) tags.unreadable = "hierarchical coding";
  if (marker >= 0xc9) tags.unreadable = "arithmetic coding";
  if (data.size() < 6 || !tags.unreadable.empty()) return;
  if (data[0] != 8 && !is_lossless) tags.unreadable = fmt::format("{} bits a sample", int{data[0]});
  const auto components = static_cast<size_t>(data[5]);
  std::vector<std::pair<int, int>> sampling;
  for (size_t i = 0; i < components && data.size() >= 6 + 3 * (i + 1); ++i) {
    const auto factors = static_cast<uint8_t>(data[6 + 3 * i + 1]);
    sampling.emplace_back(factors >> 4, factors & 15);
  }
  if (sampling.size() == 4) {
    tags.is_inked = true;
    const bool is_subsampled = std::any_of(sampling.begin(), sampling.end(), [&](auto s) { return s != sampling[0]; });
    if (is_subsampled) tags.unreadable = "CMYK with subsampled colours";
  }
  if (sampling.size() != 3) return;
  const auto [luma_x, luma_y] = sampling[0];
  const bool is_usual = sampling[1] == sampling[2] && sampling[1].first > 0 && sampling[1].second > 0 &&
                        luma_x % sampling[1].first == 0 && luma_y % sampling[1].second == 0;
  const int ratio_x = is_usual ? luma_x / sampling[1].first : 0, ratio_y = is_usual ? luma_y / sampling[1].second : 0;
  const bool is_read = (ratio_y == 1 && (ratio_x == 1 || ratio_x == 2 || ratio_x == 4)) ||
                       (ratio_y == 2 && (ratio_x == 1 || ratio_x == 2));
  if (!is_read) tags.unreadable = "colours that are sampled in a rare way";
}

bool is_frame_marker(uint8_t marker) {
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

// What a code point stands for.
using Brand = std::pair<int, std::string_view>;

template <size_t N>
std::string_view name_of(int value, const Brand (&brands)[N]) {
  const auto* found =
      std::find_if(std::begin(brands), std::end(brands), [&](const Brand& brand) { return brand.first == value; });
  return found == std::end(brands) ? ""sv : found->second;
}

// Adobe RGB without a profile, as cameras mark it.
std::string exif_colours(const std::string& exif) {
  constexpr uint16_t kExifDirectory = 34665, kColourSpace = 40961, kInteroperability = 40965, kIndex = 1;
  constexpr uint64_t kAdobeRgb = 2;
  const size_t start = exif.starts_with("Exif\0\0"sv) ? 6 : 0;
  const auto root = TiffDirectory::open(bytes_of_text(exif.substr(start)));
  const auto own = root ? root->directory(kExifDirectory) : std::nullopt;
  if (!own) return {};
  const auto interoperability = own->directory(kInteroperability);
  const bool is_adobe = own->number(kColourSpace, 0) == kAdobeRgb ||
                        (interoperability && interoperability->bytes(kIndex).starts_with("R03"));
  return is_adobe ? "Adobe RGB (EXIF)" : "";
}

}  // namespace

void read_jpeg_tags(const ReadBytes& read, ImageTags& tags) {
  ProfileParts profile;
  uint64_t at = 2;
  for (int part = 0; part < kMostParts; ++part) {
    const std::string head = read(at, 4);
    if (head.size() < 4 || head[0] != '\xff') break;
    const auto marker = static_cast<uint8_t>(head[1]);
    if (marker == 0xff) {  // fill bytes
      ++at;
      continue;
    }
    if (marker == 0xda || marker == 0xd9) break;  // the scan; the end
    const uint64_t length = big_endian(std::string_view(head).substr(2), 2);
    if (length < 2) break;
    if (marker == 0xe1 || marker == 0xe2) {
      use_jpeg_segment(marker, read(at + 4, length - 2), tags, profile);
    } else if (is_frame_marker(marker)) {
      use_jpeg_frame(marker, read(at + 4, length - 2), tags);
    }
    at += 2 + length;
  }
  for (const auto& [number, part] : profile) tags.icc += part;
  if (tags.xmp.find("Container:Directory") != std::string::npos) tags.format = kSeveralPictures;
}

void read_webp_tags(const ReadBytes& read, ImageTags& tags) {
  uint64_t at = 12;
  for (int part = 0; part < kMostParts; ++part) {
    const std::string head = read(at, 8);
    if (head.size() < 8) break;
    const uint64_t length = little_endian(std::string_view(head).substr(4), 4);
    const std::string type = head.substr(0, 4);
    if (length <= kLargestPiece) {
      if (type == "EXIF") tags.exif = read(at + 8, length);
      if (type == "XMP ") tags.xmp = read(at + 8, length);
      if (type == "ICCP") tags.icc = read(at + 8, length);
    }
    at += 8 + length + length % 2;
  }
}

// Boxes: length and type, and in the one with the header, the one with the colours.
void read_jpeg2000_tags(const ReadBytes& read, ImageTags& tags) {
  constexpr int kSrgb = 16, kGrey = 17;
  uint64_t at = 12;
  for (int part = 0; part < kMostParts; ++part) {
    const std::string head = read(at, 8);
    const uint64_t length = big_endian(head, 4);
    const std::string type = head.size() < 8 ? "" : head.substr(4);
    if (type == "colr") {
      const std::string data = read(at + 8, std::min<uint64_t>(std::max<uint64_t>(length, 8) - 8, kLargestPiece));
      const auto space =
          static_cast<int>(big_endian(std::string_view(data).substr(std::min<size_t>(data.size(), 3)), 4));
      if (data.starts_with('\1') && space != kSrgb && space != kGrey) tags.unreadable = "colours that are not RGB";
      if (data.starts_with('\2')) tags.icc = data.substr(std::min<size_t>(data.size(), 3));
    }
    if (head.size() < 8 || type == "jp2c" || length < 8) break;
    at += type == "jp2h" ? 8 : length;
  }
}

// In a header that names no masks the fourth byte of a pixel is not used.
void read_bmp_tags(const ReadBytes& read, ImageTags& tags) {
  const std::string head = read(0, 34);
  const bool has_bitfields = little_endian(std::string_view(head).substr(std::min<size_t>(head.size(), 30)), 4) == 3;
  tags.is_opaque = !has_bitfields;
}

std::string cicp_colours(int primaries, int transfer) {
  constexpr Brand kPrimaries[] = {{4, "BT.470 M"}, {8, "film"},    {9, "BT.2020"},
                                  {10, "XYZ"},     {11, "DCI-P3"}, {12, "Display P3"}};
  constexpr Brand kTransfers[] = {{4, "gamma 2.2"}, {5, "gamma 2.8"},  {8, "linear"},
                                  {16, "PQ (HDR)"}, {17, "gamma 2.6"}, {18, "HLG (HDR)"}};
  const std::string_view first = name_of(primaries, kPrimaries), second = name_of(transfer, kTransfers);
  return fmt::format("{}{}{}", first, first.empty() || second.empty() ? "" : " ", second);
}

ImageTags read_image_tags(const std::filesystem::path& path) {
  const ReadBytes read = bytes_of_file(path);
  const std::string head = read(0, 16);
  ImageTags tags;
  if (head.starts_with("\x89PNG")) read_png_tags(read, tags);
  if (head.starts_with("\xff\xd8")) read_jpeg_tags(read, tags);
  if (head.starts_with("RIFF") && head.substr(8, 4) == "WEBP") read_webp_tags(read, tags);
  if (head.starts_with("II*\0"sv) || head.starts_with("MM\0*"sv)) read_tiff_tags(read, tags);
  if (head.starts_with("II+\0"sv) || head.starts_with("MM\0+"sv)) tags.unreadable = "offsets of 64 bits";
  if (head.starts_with("\0\0\0\x0cjP  "sv)) read_jpeg2000_tags(read, tags);
  if (head.starts_with("BM")) read_bmp_tags(read, tags);

  // FFmpeg wants "<?xml" in front.
  if (const auto kind = file_kind(path); kind && kind->name == kSvgName) tags.format = "svg_pipe";

  int orientation = exif_orientation(tags.exif);
  if (orientation == 0) orientation = xmp_orientation(tags.xmp);
  if (orientation != 0) tags.orientation = orientation;
  if (tags.icc.empty() && tags.colours.empty()) tags.colours = exif_colours(tags.exif);
  return tags;
}

}  // namespace opensora::media
