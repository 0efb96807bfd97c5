#include "media/tiff_directory.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace opensora::media {
namespace {

using namespace std::string_view_literals;

constexpr size_t kEntryBytes = 12;
constexpr uint16_t kOrientation = 274;

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

}  // namespace opensora::media
