#include "core/file_kind.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <fstream>
#include <system_error>

#include "core/text.h"

namespace opensora {
namespace {

using namespace std::string_view_literals;
using enum FileGroup;

constexpr size_t kHead = 4096;

constexpr auto kToPng = "convert it to PNG or JPEG"sv;
constexpr auto kRaw = "develop it with the camera's software, darktable or RawTherapee, and give the JPEG or PNG"sv;
constexpr auto kUnpack = "unpack it and give what is in it"sv;

struct Magic {
  size_t offset;
  std::string_view bytes;
  FileKind kind;
};

// The first match counts. Kinds that share a beginning (RIFF, ISO media, TIFF, XML) are told apart further down.
constexpr std::array kMagics = {
    Magic{0, "\x89PNG\r\n\x1a\n"sv, {kPicture, "a PNG picture", ""}},
    Magic{0, "\xff\xd8\xff"sv, {kPicture, "a JPEG picture", ""}},
    Magic{0, "GIF87a"sv, {kPicture, "a GIF picture", ""}},
    Magic{0, "GIF89a"sv, {kPicture, "a GIF picture", ""}},
    Magic{0, "\0\0\x01\0"sv, {kPicture, "a Windows icon", kToPng}},
    Magic{0, "8BPS"sv, {kPicture, "a Photoshop document (PSD)", "export it as PNG or JPEG"}},
    Magic{0, "gimp xcf"sv, {kPicture, "a GIMP document (XCF)", "export it as PNG or JPEG"}},
    Magic{0, "\x76\x2f\x31\x01"sv, {kPicture, "an OpenEXR picture", kToPng}},
    Magic{0, "#?RADIANCE"sv, {kPicture, "a Radiance HDR picture", kToPng}},
    Magic{0, "#?RGBE"sv, {kPicture, "a Radiance HDR picture", kToPng}},
    Magic{0, "\xff\x0a"sv, {kPicture, "a JPEG XL picture", "convert it to PNG or JPEG (djxl IN OUT.png)"}},
    Magic{0,
          "\0\0\0\x0cJXL \r\n\x87\n"sv,
          {kPicture, "a JPEG XL picture", "convert it to PNG or JPEG (djxl IN OUT.png)"}},
    Magic{0, "\0\0\0\x0cjP  \r\n\x87\n"sv, {kPicture, "a JPEG 2000 picture", kToPng}},
    Magic{0, "\xff\x4f\xff\x51"sv, {kPicture, "a JPEG 2000 picture", kToPng}},
    Magic{0, "II\xbc"sv, {kPicture, "a JPEG XR picture", kToPng}},
    Magic{0, "DDS "sv, {kPicture, "a DDS texture", kToPng}},
    Magic{0, "\xabKTX "sv, {kPicture, "a KTX texture", kToPng}},
    Magic{0, "qoif"sv, {kPicture, "a QOI picture", kToPng}},
    Magic{0, "SIMPLE  ="sv, {kPicture, "a FITS file", kToPng}},
    Magic{0, "FUJIFILMCCD-RAW"sv, {kPicture, "a camera's raw file (Fujifilm RAF)", kRaw}},
    Magic{0, "IIRO"sv, {kPicture, "a camera's raw file (Olympus ORF)", kRaw}},
    Magic{0, "IIRS"sv, {kPicture, "a camera's raw file (Olympus ORF)", kRaw}},
    Magic{0, "MMOR"sv, {kPicture, "a camera's raw file (Olympus ORF)", kRaw}},
    Magic{0, "IIU\0"sv, {kPicture, "a camera's raw file (Panasonic RW2)", kRaw}},
    Magic{0, "FOVb"sv, {kPicture, "a camera's raw file (Sigma X3F)", kRaw}},
    Magic{0, "\0MRM"sv, {kPicture, "a camera's raw file (Minolta MRW)", kRaw}},
    Magic{8, "CR\x02\0"sv, {kPicture, "a camera's raw file (Canon CR2)", kRaw}},
    Magic{0, "II+\0"sv, {kPicture, "a BigTIFF picture", "convert it to PNG, JPEG or an ordinary TIFF"}},
    Magic{0, "MM\0+"sv, {kPicture, "a BigTIFF picture", "convert it to PNG, JPEG or an ordinary TIFF"}},
    Magic{0, "II*\0"sv, {kPicture, "a TIFF picture", kToPng}},
    Magic{0, "MM\0*"sv, {kPicture, "a TIFF picture", kToPng}},
    Magic{0, "\x1a\x45\xdf\xa3"sv, {kVideo, "a Matroska or WebM video", ""}},
    Magic{0, "FLV\x01"sv, {kVideo, "a Flash video", ""}},
    Magic{0, "\x30\x26\xb2\x75\x8e\x66\xcf\x11"sv, {kVideo, "a Windows Media video", ""}},
    Magic{0, "\0\0\x01\xba"sv, {kVideo, "an MPEG video", ""}},
    Magic{0, "\0\0\x01\xb3"sv, {kVideo, "an MPEG video", ""}},
    Magic{0, "YUV4MPEG2"sv, {kVideo, "a Y4M video", ""}},
    Magic{0, ".RMF"sv, {kVideo, "a RealMedia video", ""}},
    Magic{0, "DKIF"sv, {kVideo, "an IVF video", ""}},
    Magic{0, "\x06\x0e\x2b\x34\x02\x05\x01\x01"sv, {kVideo, "an MXF video", ""}},
    Magic{0, "OggS"sv, {kVideo, "an Ogg file", ""}},
    Magic{0, "ID3"sv, {kSound, "a sound file (MP3)", ""}},
    Magic{0, "fLaC"sv, {kSound, "a sound file (FLAC)", ""}},
    Magic{0, "GGUF"sv, {kModel, "a GGUF model", ""}},
    Magic{0, "\x93NUMPY"sv, {kModel, "a NumPy array", ""}},
    Magic{0, "\x80\x02"sv, {kModel, "a Python pickle", ""}},
    Magic{0, "%PDF-"sv, {kOther, "a PDF document", "convert a page to PNG (pdftoppm -png -r 150 IN OUT)"}},
    Magic{0, "%!PS"sv, {kOther, "a PostScript document", "convert it to PNG"}},
    Magic{0, "\xc5\xd0\xd3\xc6"sv, {kOther, "a PostScript document", "convert it to PNG"}},
    Magic{0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"sv, {kOther, "an old Office document", "export its picture as PNG"}},
    Magic{0, "PK\x03\x04"sv, {kOther, "a ZIP archive", kUnpack}},
    Magic{0, "PK\x05\x06"sv, {kOther, "a ZIP archive", kUnpack}},
    Magic{0, "\x1f\x8b"sv, {kOther, "a gzip archive", kUnpack}},
    Magic{0, "\x28\xb5\x2f\xfd"sv, {kOther, "a Zstandard archive", kUnpack}},
    Magic{0, "BZh"sv, {kOther, "a bzip2 archive", kUnpack}},
    Magic{0,
          "\xfd"
          "7zXZ"sv,
          {kOther, "an XZ archive", kUnpack}},
    Magic{0, "7z\xbc\xaf\x27\x1c"sv, {kOther, "a 7z archive", kUnpack}},
    Magic{0, "Rar!"sv, {kOther, "a RAR archive", kUnpack}},
    Magic{257, "ustar"sv, {kOther, "a tar archive", kUnpack}},
    Magic{0,
          "\x7f"
          "ELF"sv,
          {kOther, "a program (ELF)", ""}},
    Magic{0, "version https://git-lfs"sv, {kOther, "a Git LFS pointer", "fetch the file itself with git lfs pull"}},
};

bool has(std::string_view head, size_t offset, std::string_view bytes) {
  return head.size() >= offset + bytes.size() && head.substr(offset, bytes.size()) == bytes;
}

FileKind riff_kind(std::string_view head) {
  if (has(head, 8, "WEBP")) return {kPicture, "a WebP picture", kToPng};
  if (has(head, 8, "AVI ")) return {kVideo, "an AVI video", ""};
  if (has(head, 8, "WAVE")) return {kSound, "a sound file (WAV)", ""};
  if (has(head, 8, "ACON")) return {kPicture, "a Windows cursor", kToPng};
  return {kOther, "a RIFF file", ""};
}

// ISO base media: the brands in "ftyp" tell pictures from videos.
FileKind iso_media_kind(std::string_view head) {
  const std::string_view brand = head.substr(8, 4);
  const size_t length =
      std::min<size_t>(head.size(), static_cast<uint8_t>(head[3]) + 256 * static_cast<uint8_t>(head[2]));
  const std::string_view brands = head.substr(8, length < 8 ? 0 : length - 8);
  const auto any = [&](std::initializer_list<std::string_view> names) {
    return std::any_of(names.begin(), names.end(),
                       [&](std::string_view name) { return brands.find(name) != std::string_view::npos; });
  };
  constexpr auto kHeicAdvice = "convert it to JPEG or PNG (heif-convert IN OUT.png, or export it on the phone)"sv;
  if (brand == "crx ") return {kPicture, "a camera's raw file (Canon CR3)", kRaw};
  if (brand == "avif" || brand == "avis") return {kPicture, "an AVIF picture", kToPng};
  if (brand == "heic" || brand == "heix" || brand == "heim" || brand == "heis") {
    return {kPicture, "a HEIC picture", kHeicAdvice};
  }
  if (brand == "hevc" || brand == "hevx") return {kPicture, "a HEIC sequence", kHeicAdvice};
  if (brand == "mif1" || brand == "msf1" || brand == "mif2") {
    if (any({"avif", "avis"})) return {kPicture, "an AVIF picture", kToPng};
    return {kPicture, any({"heic", "heix"}) ? "a HEIC picture" : "a HEIF picture", kHeicAdvice};
  }
  if (brand == "M4A " || brand == "M4B ") return {kSound, "a sound file (M4A)", ""};
  return {kVideo, brand == "qt  " ? "a QuickTime video" : "an MP4 video", ""};
}

std::string lower_start(std::string_view head) {
  constexpr auto kByteOrderMark = "\xef\xbb\xbf"sv;
  if (head.starts_with(kByteOrderMark)) head.remove_prefix(kByteOrderMark.size());
  const size_t begin = head.find_first_not_of(" \t\r\n\f");
  std::string text(begin == std::string_view::npos ? ""sv : head.substr(begin, 1024));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_text(std::string_view head, size_t size) {
  const bool is_plain = std::none_of(head.begin(), head.end(), [](unsigned char c) {
    return (c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != '\x1b') || c == 0x7f;
  });
  if (!is_plain) return false;
  const std::optional<size_t> invalid = find_invalid_utf8(head);
  return !invalid || (size > head.size() && *invalid + 4 > head.size());  // cut off within its last character
}

std::optional<FileKind> text_kind(std::string_view head, size_t size) {
  const std::string text = lower_start(head);
  if (text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<head") ||
      text.starts_with("<body")) {
    return FileKind{kOther, "an HTML page", "download the picture or video itself, not the page that shows it"};
  }
  if (text.starts_with("<svg") || (text.starts_with("<") && text.find("<svg") != std::string::npos)) {
    return FileKind{kPicture, kSvgName, "convert it to PNG (rsvg-convert IN -o OUT.png)"};
  }
  if (text.starts_with("<?xml")) {
    if (text.find("<html") != std::string::npos) {
      return FileKind{kOther, "an HTML page", "download the picture or video itself, not the page that shows it"};
    }
    return FileKind{kOther, "an XML document", ""};
  }
  if (!is_text(head, size)) return std::nullopt;
  if (text.starts_with("{") || text.starts_with("[")) return FileKind{kOther, "a JSON text", ""};
  return FileKind{kOther, "a text file", ""};
}

// FFmpeg reads some formats that are plain text. They must not be taken for any other text.
bool is_text_of_pictures(std::string_view head) {
  constexpr std::array kStarts = {"ffconcat version"sv,
                                  "#EXTM3U"sv,
                                  "#define "sv,
                                  "/* XPM */"sv,
                                  "P1"sv,
                                  "P2"sv,
                                  "P3"sv,
                                  "P4"sv,
                                  "P5"sv,
                                  "P6"sv,
                                  "P7"sv,
                                  "PF"sv,
                                  "Pf"sv,
                                  "static char"sv};
  return std::any_of(kStarts.begin(), kStarts.end(), [&](std::string_view start) { return head.starts_with(start); });
}

// A safetensors file begins with the length of its header in eight bytes; the header itself is JSON.
bool is_safetensors(std::string_view head, size_t size) {
  if (head.size() < 10 || head[8] != '{') return false;
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<uint8_t>(head[i]);
  return length >= 2 && length <= size;
}

// MPEG transport streams have a sync byte every 188 bytes, or every 192 if time stamps stand between the packets.
bool is_transport_stream(std::string_view head) {
  const auto every = [&](size_t first, size_t step) {
    if (head.size() < first + 4 * step) return false;
    for (size_t at = first; at < head.size(); at += step) {
      if (head[at] != 'G') return false;
    }
    return true;
  };
  return every(0, 188) || every(4, 192);
}

// TGA has no magic number, but its header allows only a few values.
bool is_tga(std::string_view head) {
  if (head.size() < 18) return false;
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(head[at]); };
  const int kind = byte(2) & 7, bits = byte(16);
  const bool has_size = (byte(12) | byte(13)) != 0 && (byte(14) | byte(15)) != 0;
  return byte(1) <= 1 && (byte(2) & ~8) == kind && kind >= 1 && kind <= 3 && has_size &&
         (bits == 1 || bits == 8 || bits == 15 || bits == 16 || bits == 24 || bits == 32) && (byte(17) & 0xc0) == 0;
}

}  // namespace

std::optional<FileKind> file_kind(std::string_view head, size_t size) {
  if (has(head, 4, "ftyp") && head.size() >= 12) return iso_media_kind(head);
  if (has(head, 0, "RIFF") && head.size() >= 12) return riff_kind(head);
  if (has(head, 4, "moov") || has(head, 4, "mdat") || has(head, 4, "wide")) {
    return FileKind{kVideo, "a QuickTime video", ""};
  }
  if (has(head, 0, "BM") && has(head, 6, "\0\0\0\0"sv)) return FileKind{kPicture, "a BMP picture", kToPng};
  if (is_safetensors(head, size)) return FileKind{kModel, "a safetensors checkpoint", ""};
  const auto* found = std::find_if(kMagics.begin(), kMagics.end(),
                                   [&](const Magic& magic) { return has(head, magic.offset, magic.bytes); });
  if (found != kMagics.end()) return found->kind;
  if (is_transport_stream(head)) return FileKind{kVideo, "an MPEG transport stream", ""};
  if (head.empty() || is_text_of_pictures(head)) return std::nullopt;
  if (std::optional<FileKind> text = text_kind(head, size)) return text;
  if (is_tga(head)) return FileKind{kPicture, "a TGA picture", kToPng};
  return std::nullopt;
}

std::optional<FileKind> file_kind(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
  const uintmax_t size = std::filesystem::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  std::string head(kHead, '\0');
  file.read(head.data(), kHead);
  head.resize(static_cast<size_t>(file.gcount()));
  return file_kind(head, error ? head.size() : size);
}

bool has_video_name(const std::filesystem::path& path) {
  constexpr std::array<std::string_view, 13> kExtensions = {".mp4", ".m4v",  ".mov", ".mkv", ".webm", ".avi", ".mpg",
                                                            ".ts",  ".mpeg", ".wmv", ".flv", ".ogv",  ".y4m"};
  return std::ranges::find(kExtensions, to_lower(path.extension().string())) != kExtensions.end();
}

}  // namespace opensora
