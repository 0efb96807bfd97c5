#include "io/zip_archive.h"

#include <algorithm>
#include <cstring>

#include "core/json_text.h"

// The layout is that of PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (table), 4.3.14 to 4.3.16 (its end)
// and 4.5.3 (sizes of 64 bits).
namespace opensora::io {
namespace {

constexpr uint64_t kEndSize = 22, kLocatorSize = 20, kEnd64Size = 56, kEntrySize = 46, kHeaderSize = 30;
constexpr uint64_t kLongestComment = 65535;
constexpr uint32_t kIn64Bits = 0xFFFFFFFF;  // of a size or place: it is given elsewhere
constexpr uint16_t kExtra64 = 1;

constexpr std::string_view kEnd("PK\x05\x06"), kEnd64("PK\x06\x06"), kLocator("PK\x06\x07"), kEntry("PK\x01\x02"),
    kHeader("PK\x03\x04");

[[noreturn]] void fail_cut() { throw ZipError("its end is missing or damaged; is the download complete?"); }

// Little-endian, as this machine.
template <typename T>
T read(std::string_view text, uint64_t at) {
  if (at > text.size() || sizeof(T) > text.size() - at) fail_cut();
  T value;
  std::memcpy(&value, text.data() + at, sizeof(T));
  return value;
}

std::string_view part(std::string_view text, uint64_t at, uint64_t size) {
  if (at > text.size() || size > text.size() - at) fail_cut();
  return text.substr(at, size);
}

// The end of the table is at the end of the file, but for a comment.
uint64_t find_end(std::string_view file) {
  if (file.size() < kEndSize) fail_cut();
  const uint64_t last = file.size() - kEndSize;
  const uint64_t first = last - std::min(last, kLongestComment);
  for (uint64_t at = last + 1; at-- > first;) {
    if (file.substr(at, kEnd.size()) == kEnd && at + kEndSize + read<uint16_t>(file, at + 20) <= file.size()) return at;
  }
  fail_cut();
}

ByteRange find_table(std::string_view file) {
  const uint64_t end = find_end(file);
  uint64_t size = read<uint32_t>(file, end + 12), begin = read<uint32_t>(file, end + 16);
  if (end >= kLocatorSize && file.substr(end - kLocatorSize, kLocator.size()) == kLocator) {
    const uint64_t end64 = read<uint64_t>(file, end - kLocatorSize + 8);
    const std::string_view record = part(file, end64, kEnd64Size);
    if (!record.starts_with(kEnd64)) fail_cut();
    size = read<uint64_t>(record, 40);
    begin = read<uint64_t>(record, 48);
  }
  part(file, begin, size);
  return {begin, begin + size};
}

}  // namespace

ZipArchive::ZipArchive(std::string_view file) : file_(file) { read_entries(find_table(file)); }

void ZipArchive::read_entries(ByteRange table) {
  for (uint64_t at = table.begin; at < table.end;) {
    const std::string_view fixed = part(file_, at, kEntrySize);
    if (!fixed.starts_with(kEntry)) fail_cut();
    const uint64_t name_size = read<uint16_t>(fixed, 28), extra_size = read<uint16_t>(fixed, 30);
    const std::string_view name = part(file_, at + kEntrySize, name_size);
    const Entry entry = read_entry(at, part(file_, at + kEntrySize + name_size, extra_size));
    entries_.emplace(name, entry);
    at += kEntrySize + name_size + extra_size + read<uint16_t>(fixed, 32);
  }
}

// Sizes that need 64 bits are among the fields of `extra`, in this order, each only where it is needed.
ZipArchive::Entry ZipArchive::read_entry(uint64_t at, std::string_view extra) const {
  Entry entry{.header = read<uint32_t>(file_, at + 42),
              .size = read<uint32_t>(file_, at + 24),
              .packed_size = read<uint32_t>(file_, at + 20),
              .flags = read<uint16_t>(file_, at + 8),
              .method = read<uint16_t>(file_, at + 10)};
  for (uint64_t field = 0; field + 4 <= extra.size();) {
    const std::string_view data = part(extra, field + 4, read<uint16_t>(extra, field + 2));
    if (read<uint16_t>(extra, field) == kExtra64) {
      uint64_t next = 0;
      for (uint64_t* value : {&entry.size, &entry.packed_size, &entry.header}) {
        if (*value != kIn64Bits) continue;
        *value = read<uint64_t>(data, next);
        next += sizeof(uint64_t);
      }
    }
    field += 4 + data.size();
  }
  return entry;
}

std::vector<std::string> ZipArchive::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

ByteRange ZipArchive::range(const std::string& name) const {
  const auto found = entries_.find(name);
  const std::string record = "record " + json_excerpt(name);
  if (found == entries_.end()) throw ZipError("has no " + record);
  const Entry& entry = found->second;
  if ((entry.flags & 1) != 0) throw ZipError(record + " is encrypted");
  if (entry.method != 0 || entry.packed_size != entry.size) {
    throw ZipError(record + " is compressed, which torch.save never does");
  }
  const std::string_view header = part(file_, entry.header, kHeaderSize);
  if (!header.starts_with(kHeader)) fail_cut();
  const uint64_t begin = entry.header + kHeaderSize + read<uint16_t>(header, 26) + read<uint16_t>(header, 28);
  if (begin > file_.size() || entry.size > file_.size() - begin) {
    throw ZipError(record + " goes beyond the end of the file; is the download complete?");
  }
  return {begin, begin + entry.size};
}

}  // namespace opensora::io
