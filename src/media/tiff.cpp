#include "media/tiff.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "media/image_tags.h"

namespace opensora::media {
namespace {

using namespace std::string_view_literals;

constexpr size_t kEntryBytes = 12;

size_t size_of_type(uint16_t type) {
  switch (type) {
    case 1:  // BYTE, ASCII, SBYTE, UNDEFINED
    case 2:
    case 6:
    case 7:
      return 1;
    case 3:  // SHORT, SSHORT
    case 8:
      return 2;
    case 4:  // LONG, SLONG, FLOAT, IFD
    case 9:
    case 11:
    case 13:
      return 4;
    case 5:  // RATIONAL, SRATIONAL, DOUBLE
    case 10:
    case 12:
      return 8;
    default:
      return 0;
  }
}

bool is_integral(uint16_t type) { return type != 2 && type != 5 && type <= 9; }

// Tags.
constexpr uint16_t kNewSubfileType = 254, kWidth = 256, kHeight = 257, kBitsPerSample = 258, kCompression = 259,
                   kPhotometric = 262, kStripOffsets = 273, kOrientation = 274, kSamplesPerPixel = 277,
                   kRowsPerStrip = 278, kStripByteCounts = 279, kPlanarConfiguration = 284, kPredictor = 317,
                   kTileWidth = 322, kSubDirectories = 330, kExtraSamples = 338, kSampleFormat = 339,
                   kYcbcrSubsampling = 530, kXmp = 700, kProfile = 34675, kDngVersion = 50706;

// Values of kPhotometric.
constexpr uint64_t kWhiteIsZero = 0, kBlackIsZero = 1, kRgb = 2, kPalette = 3, kCmyk = 5, kYcbcr = 6;

// Of TIFF's many kinds FFmpeg decodes the common ones. The others it partly refuses and partly reads as black or as
// noise, without an error: what follows tells them apart. The list was made by comparing with libtiff.

// The name of a compression that FFmpeg cannot decode; empty for the others.
std::string compression_name(uint64_t compression) {
  switch (compression) {
    case 1:  // none
    case 2:  // CCITT: RLE, group 3, group 4
    case 3:
    case 4:
    case 5:      // LZW
    case 8:      // deflate
    case 32946:  // deflate, as it was first called
    case 32773:  // PackBits
    case 34925:  // LZMA
      return {};
    case 6:
    case 7:
      return "JPEG";
    case 34676:
    case 34677:
      return "LogLuv";
    case 34712:
      return "JPEG 2000";
    case 34887:
      return "LERC";
    case 50000:
      return "Zstandard";
    case 50001:
      return "WebP";
    case 50002:
    case 52546:
      return "JPEG XL";
    default:
      return fmt::format("number {}", compression);
  }
}

std::string photometric_name(uint64_t photometric) {
  switch (photometric) {
    case 4:
      return "a mask";
    case 8:
    case 9:
    case 10:
      return "colours in Lab";
    case 32803:
    case 34892:
      return "a camera's raw data";
    case 32844:
    case 32845:
      return "colours in LogLuv";
    default:
      return fmt::format("colours of kind {}", photometric);
  }
}

// Why FFmpeg cannot decode these samples; "" if it can.
std::string unreadable_samples(const TiffDirectory& directory) {
  const uint64_t bits = directory.number(kBitsPerSample, 1), samples = directory.number(kSamplesPerPixel, 1);
  const uint64_t photometric = directory.number(kPhotometric, kBlackIsZero);
  const uint64_t compression = directory.number(kCompression, 1);
  const bool is_planar = directory.number(kPlanarConfiguration, 1) == 2;
  const bool is_grey = photometric == kWhiteIsZero || photometric == kBlackIsZero;
  const bool is_packed_grey =
      (is_grey || photometric == kPalette) && samples == 1 && (bits == 1 || bits == 2 || bits == 4);
  if (bits != 8 && bits != 16 && !is_packed_grey) return fmt::format("{} bits a sample", bits);
  switch (photometric) {
    case kWhiteIsZero:
      if (bits == 16) return "16 bits a sample, with white as zero";
      [[fallthrough]];
    case kBlackIsZero:
      if (samples > 2) return fmt::format("{} samples a pixel", samples);
      break;
    case kPalette:
      if (samples != 1 || bits == 16) return "a palette with more than one byte a pixel";
      break;
    case kRgb:
      if (samples != 3 && samples != 4) return fmt::format("{} samples a pixel", samples);
      if (is_planar && bits == 16 && compression == 1) return "16 bits a sample, in planes";
      break;
    case kCmyk:
      if (samples != 4 || is_planar || bits != 8) return "CMYK of another form than four bytes a pixel";
      break;
    case kYcbcr:
      if (samples != 3 || is_planar || bits != 8) return "YCbCr of another form than three bytes a pixel";
      break;
    default:
      return photometric_name(photometric);
  }
  return is_planar && samples == 1 ? "one plane for one sample" : "";
}

bool is_subsampled(const TiffDirectory& directory) {
  const std::vector<uint64_t> sampling = directory.numbers(kYcbcrSubsampling);
  return sampling.empty() || std::any_of(sampling.begin(), sampling.end(), [](uint64_t each) { return each != 1; });
}

// The bytes of a row of a strip where nothing is compressed; else 0.
uint64_t stored_row_bytes(const TiffDirectory& directory, uint64_t width) {
  if (directory.number(kCompression, 1) != 1) return 0;
  const bool is_planar = directory.number(kPlanarConfiguration, 1) == 2;
  const uint64_t samples = is_planar ? 1 : std::min<uint64_t>(directory.number(kSamplesPerPixel, 1), 16);
  return (width * samples * std::min<uint64_t>(directory.number(kBitsPerSample, 1), 64) + 7) / 8;
}

// FFmpeg reads strips that are not there as black.
bool has_missing_strips(const TiffDirectory& directory, const ReadBytes& read) {
  const std::vector<uint64_t> offsets = directory.numbers(kStripOffsets), sizes = directory.numbers(kStripByteCounts);
  if (offsets.empty() || sizes.size() < offsets.size()) return offsets.empty() || !sizes.empty();
  constexpr uint64_t kMost = uint64_t{1} << 20;  // of a side: more is refused elsewhere
  const uint64_t height = std::clamp<uint64_t>(directory.number(kHeight, 1), 1, kMost);
  const uint64_t rows = std::clamp<uint64_t>(directory.number(kRowsPerStrip, height), 1, height);
  const uint64_t strips = (height + rows - 1) / rows;  // of a plane
  const uint64_t row_bytes = stored_row_bytes(directory, std::min(directory.number(kWidth, 1), kMost));
  for (size_t i = 0; i < offsets.size(); ++i) {
    const uint64_t least = std::max<uint64_t>(1, row_bytes * std::min(rows, height - i % strips * rows));
    if (offsets[i] == 0 || sizes[i] < least || read(offsets[i] + sizes[i] - 1, 1).empty()) return true;
  }
  return false;
}

std::string unreadable(const TiffDirectory& directory) {
  constexpr uint64_t kThumbnail = 1;
  if (directory.has(kDngVersion)) return "a camera's raw file (DNG)";
  if (directory.has(kSubDirectories) && (directory.number(kNewSubfileType, 0) & kThumbnail) != 0) {
    return "a camera's raw file";
  }
  const std::string compression = compression_name(directory.number(kCompression, 1));
  if (!compression.empty()) return "compression " + compression;
  if (directory.has(kTileWidth)) return "stored in tiles";
  for (const uint64_t format : directory.numbers(kSampleFormat)) {
    if (format != 1 && format != 4) return format == 3 ? "floating point" : "signed samples";
  }
  if (std::string why = unreadable_samples(directory); !why.empty()) return why;
  if (directory.number(kPhotometric, kBlackIsZero) == kYcbcr && is_subsampled(directory)) return "subsampled YCbCr";
  if (directory.number(kPredictor, 1) > 2) return "a predictor for floating point";
  return {};
}

}  // namespace

std::optional<TiffDirectory> TiffDirectory::open(ReadBytes read) {
  const std::string head = read(0, 8);
  const bool is_big_endian = head.starts_with("MM\0*"sv);
  if (head.size() < 8 || (!is_big_endian && !head.starts_with("II*\0"sv))) return std::nullopt;
  TiffDirectory directory(std::move(read), is_big_endian);
  if (!directory.parse(directory.integer(std::string_view(head).substr(4), 4))) return std::nullopt;
  return directory;
}

bool TiffDirectory::parse(uint64_t offset) {
  const uint64_t count = integer(read_(offset, 2), 2);
  const std::string table = read_(offset + 2, count * kEntryBytes);
  for (size_t at = 0; at + kEntryBytes <= table.size(); at += kEntryBytes) {
    const std::string_view entry = std::string_view(table).substr(at, kEntryBytes);
    Entry parsed{static_cast<uint16_t>(integer(entry.substr(2), 2)), integer(entry.substr(4), 4), 0};
    const size_t unit = size_of_type(parsed.type);
    if (unit == 0 || parsed.count == 0) continue;
    // Up to four bytes are in the entry itself.
    parsed.offset = unit * parsed.count <= 4 ? offset + 2 + at + 8 : integer(entry.substr(8), 4);
    entries_.emplace(static_cast<uint16_t>(integer(entry, 2)), parsed);
  }
  return !entries_.empty();
}

uint64_t TiffDirectory::integer(std::string_view text, size_t size) const {
  return is_big_endian_ ? big_endian(text, size) : little_endian(text, size);
}

std::vector<uint64_t> TiffDirectory::numbers(uint16_t tag) const {
  constexpr uint64_t kMost = 65536;
  const auto found = entries_.find(tag);
  if (found == entries_.end() || !is_integral(found->second.type)) return {};
  const size_t unit = size_of_type(found->second.type);
  const std::string bytes = read_(found->second.offset, std::min(found->second.count, kMost) * unit);
  std::vector<uint64_t> values;
  values.reserve(bytes.size() / unit);
  for (size_t at = 0; at + unit <= bytes.size(); at += unit) {
    values.push_back(integer(std::string_view(bytes).substr(at), unit));
  }
  return values;
}

uint64_t TiffDirectory::number(uint16_t tag, uint64_t absent) const {
  const std::vector<uint64_t> values = numbers(tag);
  return values.empty() ? absent : values.front();
}

std::string TiffDirectory::bytes(uint16_t tag) const {
  constexpr uint64_t kMost = uint64_t{16} << 20;
  const auto found = entries_.find(tag);
  if (found == entries_.end()) return {};
  return read_(found->second.offset, std::min(found->second.count * size_of_type(found->second.type), kMost));
}

std::optional<TiffDirectory> TiffDirectory::directory(uint16_t tag) const {
  const std::vector<uint64_t> offsets = numbers(tag);
  if (offsets.empty()) return std::nullopt;
  TiffDirectory directory(read_, is_big_endian_);
  if (!directory.parse(offsets.front())) return std::nullopt;
  return directory;
}

int exif_orientation(const std::string& block) {
  constexpr auto kPrefix = "Exif\0\0"sv;
  const std::string tiff = block.starts_with(kPrefix) ? block.substr(kPrefix.size()) : block;
  const std::optional<TiffDirectory> directory = TiffDirectory::open(bytes_of_text(tiff));
  if (!directory) return 0;
  const std::vector<uint64_t> values = directory->numbers(kOrientation);
  if (values.empty()) return 0;
  return values.front() >= 1 && values.front() <= 8 ? static_cast<int>(values.front()) : 1;
}

int xmp_orientation(const std::string& xmp) {
  constexpr auto kName = "tiff:Orientation"sv;
  for (size_t at = xmp.find(kName); at != std::string::npos; at = xmp.find(kName, at + 1)) {
    std::string_view rest = std::string_view(xmp).substr(at + kName.size());
    const size_t skipped = rest.starts_with("=\"") || rest.starts_with("='") ? 2 : rest.starts_with(">") ? 1 : 0;
    if (skipped == 0) continue;
    rest.remove_prefix(skipped);
    if (rest.empty() || rest.front() < '0' || rest.front() > '9') continue;
    return rest.front() >= '1' && rest.front() <= '8' ? rest.front() - '0' : 1;
  }
  return 0;
}

void read_tiff_tags(const ReadBytes& read, ImageTags& tags) {
  constexpr uint64_t kStraightAlpha = 2;
  const std::optional<TiffDirectory> directory = TiffDirectory::open(read);
  if (!directory) return;  // FFmpeg's own error will do
  tags.unreadable = unreadable(*directory);
  if (tags.unreadable.empty() && has_missing_strips(*directory, read)) {
    tags.unreadable = "strips that are missing or cut";
    tags.is_damaged = true;
  }
  tags.icc = directory->bytes(kProfile);
  tags.xmp = directory->bytes(kXmp);
  const uint64_t orientation = directory->number(kOrientation, 1);
  tags.orientation = orientation >= 1 && orientation <= 8 ? static_cast<int>(orientation) : 1;
  if (directory->has(kOrientation)) tags.xmp.clear();  // the tag counts
  // Premultiplied colours are already over black; and a sample that is not said to be alpha is none.
  tags.is_opaque = directory->number(kExtraSamples, 0) != kStraightAlpha;
  const uint64_t photometric = directory->number(kPhotometric, kBlackIsZero);
  tags.is_full_range = photometric == kYcbcr;
  tags.is_inked = photometric == kCmyk;
}

}  // namespace opensora::media
