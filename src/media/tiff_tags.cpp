// Of TIFF's many kinds FFmpeg decodes the common ones. The others it partly refuses and partly reads as black or as
// noise, without an error: this is where they are told apart. The list was made by comparing with libtiff.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "media/image_tags.h"
#include "media/tiff_directory.h"

namespace opensora::media {
namespace {

enum Tag : uint16_t {
  kNewSubfileType = 254,
  kHeight = 257,
  kBitsPerSample = 258,
  kCompression = 259,
  kPhotometric = 262,
  kFillOrder = 266,
  kStripOffsets = 273,
  kOrientation = 274,
  kSamplesPerPixel = 277,
  kRowsPerStrip = 278,
  kStripByteCounts = 279,
  kPlanarConfiguration = 284,
  kPredictor = 317,
  kTileWidth = 322,
  kSubDirectories = 330,
  kExtraSamples = 338,
  kSampleFormat = 339,
  kYcbcrSubsampling = 530,
  kXmp = 700,
  kProfile = 34675,
  kDngVersion = 50706,
};

enum Photometric : uint64_t { kWhiteIsZero = 0, kBlackIsZero = 1, kRgb = 2, kPalette = 3, kCmyk = 5, kYcbcr = 6 };

// Empty for what FFmpeg has a decoder for.
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

struct Layout {
  uint64_t bits, samples, photometric, compression;
  bool is_planar;
};

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

// "": FFmpeg decodes them.
std::string unreadable_samples(const Layout& layout) {
  const auto [bits, samples, photometric, compression, is_planar] = layout;
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

// FFmpeg reads strips that are not there as black.
bool has_missing_strips(const TiffDirectory& directory, const ReadBytes& read) {
  const std::vector<uint64_t> offsets = directory.numbers(kStripOffsets), sizes = directory.numbers(kStripByteCounts);
  if (offsets.empty() || sizes.size() < offsets.size()) return offsets.empty() || !sizes.empty();
  for (size_t i = 0; i < offsets.size(); ++i) {
    if (offsets[i] == 0 || sizes[i] == 0 || read(offsets[i] + sizes[i] - 1, 1).empty()) return true;
  }
  return false;
}

std::string unreadable(const TiffDirectory& directory) {
  constexpr uint64_t kThumbnail = 1;
  if (directory.has(kDngVersion)) return "a camera's raw file (DNG)";
  if (directory.has(kSubDirectories) && (directory.number(kNewSubfileType, 0) & kThumbnail) != 0) {
    return "a camera's raw file";
  }
  const uint64_t compression = directory.number(kCompression, 1);
  if (const std::string name = compression_name(compression); !name.empty()) return "compression " + name;
  if (directory.has(kTileWidth)) return "stored in tiles";

  const Layout layout{directory.number(kBitsPerSample, 1), directory.number(kSamplesPerPixel, 1),
                      directory.number(kPhotometric, kBlackIsZero), compression,
                      directory.number(kPlanarConfiguration, 1) == 2};
  for (const uint64_t format : directory.numbers(kSampleFormat)) {
    if (format != 1 && format != 4) return format == 3 ? "floating point" : "signed samples";
  }
  if (std::string why = unreadable_samples(layout); !why.empty()) return why;
  if (layout.photometric == kYcbcr && is_subsampled(directory)) return "subsampled YCbCr";
  if (directory.number(kPredictor, 1) > 2) return "a predictor for floating point";
  return {};
}

}  // namespace

void read_tiff_tags(const ReadBytes& read, ImageTags& tags) {
  constexpr uint64_t kStraightAlpha = 2;
  const std::optional<TiffDirectory> directory = TiffDirectory::open(read);
  if (!directory) return;  // FFmpeg's error tells
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
