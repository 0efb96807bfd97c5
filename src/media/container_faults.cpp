#include "media/container_faults.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "media/file_bytes.h"
#include "opensora/error.h"

namespace opensora::media {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kBoxHeader = 8;
constexpr std::array<std::string_view, 2> kEncrypted = {"encv", "drmi"};  // sample entries; the second: FairPlay
constexpr std::string_view kEncryptedText = "is encrypted (DRM); expected a file that is not";

// A box (atom) of MP4 and MOV.
struct Box {
  std::string type;
  uint64_t begin = 0, size = 0;  // bytes; the size as it says of itself
};

std::string read_at(std::ifstream& file, uint64_t position, size_t count) {
  std::string bytes(count, '\0');
  file.clear();
  file.seekg(static_cast<std::streamoff>(position));
  file.read(bytes.data(), static_cast<std::streamsize>(count));
  bytes.resize(static_cast<size_t>(file.gcount()));
  return bytes;
}

std::optional<Box> read_box(std::ifstream& file, uint64_t begin, uint64_t end) {
  constexpr size_t kLongHeader = 16;
  const std::string header = read_at(file, begin, kLongHeader);
  if (header.size() < kBoxHeader) return std::nullopt;
  Box box{header.substr(4, 4), begin, big_endian(header, 4)};
  if (box.size == 0) box.size = end - begin;
  if (box.size == 1 && header.size() == kLongHeader) box.size = big_endian(header.substr(kBoxHeader), 8);
  if (box.size < kBoxHeader) return std::nullopt;
  return box;
}

// What lies between two places of the file, until something is no box.
std::vector<Box> read_boxes(std::ifstream& file, uint64_t begin, uint64_t end) {
  constexpr size_t kMost = 100000;  // a film in fragments of a second has 20000
  std::vector<Box> boxes;
  while (begin < end && boxes.size() < kMost) {
    const std::optional<Box> box = read_box(file, begin, end);
    if (!box) break;
    boxes.push_back(*box);
    if (box->size >= end - begin) break;
    begin += box->size;
  }
  return boxes;
}

const Box* find(const std::vector<Box>& boxes, std::string_view type) {
  const auto found = std::find_if(boxes.begin(), boxes.end(), [&](const Box& box) { return box.type == type; });
  return found == boxes.end() ? nullptr : &*found;
}

// What is in a box, after `skipped` bytes of its own.
std::vector<Box> read_children(std::ifstream& file, const Box& box, uint64_t skipped = 0) {
  return read_boxes(file, box.begin + kBoxHeader + skipped, box.begin + box.size);
}

// How the samples of a track are coded: "avc1", or "encv" if they are encrypted.
std::vector<Box> sample_entries(std::ifstream& file, const Box& track) {
  constexpr uint64_t kVersionAndCount = 8;
  std::vector<Box> boxes = read_children(file, track);
  for (const char* type : {"mdia", "minf", "stbl", "stsd"}) {
    const Box* box = find(boxes, type);
    if (box == nullptr) return {};
    boxes = read_children(file, *box, std::string_view(type) == "stsd" ? kVersionAndCount : 0);
  }
  return boxes;
}

bool has_encrypted_pictures(std::ifstream& file, const std::vector<Box>& index) {
  for (const Box& box : index) {
    if (box.type != "trak") continue;
    for (const Box& entry : sample_entries(file, box)) {
      if (std::find(kEncrypted.begin(), kEncrypted.end(), entry.type) != kEncrypted.end()) return true;
    }
  }
  return false;
}

std::string cut_off(std::string_view part, const Box& box, uint64_t size) {
  return fmt::format(
      "incomplete: its {} ({}) should end at byte {}, and the file has {}: it was cut off; copy it again", part,
      box.type, box.begin + box.size, size);
}

// `boxes`: of the whole file.
std::string mp4_fault_with_index(std::ifstream& file, const std::vector<Box>& boxes, const Box& moov, uint64_t size) {
  if (moov.size > size - moov.begin) return cut_off("index", moov, size);
  const std::vector<Box> index = read_children(file, moov);
  if (find(index, "rmra") != nullptr) return "is a reference movie: it only names other files; give one of those";
  if (has_encrypted_pictures(file, index)) return std::string(kEncryptedText);
  const Box& last = boxes.back();
  if (last.size > size - last.begin && (last.type == "mdat" || last.type == "moof")) {
    return cut_off(last.type == "mdat" ? "media data" : "last fragment", last, size);
  }
  if (find(boxes, "moof") != nullptr || find(boxes, "mdat") != nullptr) return {};
  if (find(index, "mvex") != nullptr) {
    return "is the initialization segment of a fragmented MP4 and holds no frame: append its fragments to it";
  }
  return "incomplete: it has an index (moov) and no media data (mdat); copy it again";
}

std::string mp4_fault(std::ifstream& file, uint64_t size) {
  static const std::set<std::string> kFirst = {"ftyp", "styp", "moov", "moof", "mdat",
                                               "free", "skip", "wide", "pnot", "sidx"};
  const std::vector<Box> boxes = read_boxes(file, 0, size);
  if (boxes.empty() || !kFirst.contains(boxes.front().type)) return {};
  if (const Box* moov = find(boxes, "moov"); moov != nullptr) return mp4_fault_with_index(file, boxes, *moov, size);
  if (find(boxes, "moof") != nullptr) {
    return "is a fragment of an MP4 without its beginning (moov): append it to its initialization segment";
  }
  return "incomplete: it has no index (moov); the recording or the copy was cut off: copy it again, or repair it with "
         "a "
         "tool such as untrunc";
}

std::string transport_stream_fault(std::ifstream& file) {
  constexpr size_t kPacket = 188, kLooked = 200;
  const std::string bytes = read_at(file, 0, kPacket * kLooked);
  size_t packets = 0, scrambled = 0;
  for (size_t at = 0; at + kPacket <= bytes.size(); at += kPacket, ++packets) {
    if (bytes[at] != 'G') return {};
    if ((static_cast<uint8_t>(bytes[at + 3]) & 0xc0) != 0) ++scrambled;
  }
  return packets > 2 && scrambled > 0 ? "is encrypted (a scrambled MPEG-TS); decrypt it first" : "";
}

}  // namespace

std::string container_fault(const fs::path& path) {
  std::error_code error;
  const uint64_t size = fs::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  if (error || !file) return {};
  const std::string fault = mp4_fault(file, size);
  return fault.empty() ? transport_stream_fault(file) : fault;
}

bool is_encrypted(uint32_t codec_tag) {
  return std::any_of(kEncrypted.begin(), kEncrypted.end(),
                     [&](std::string_view tag) { return little_endian(tag, tag.size()) == codec_tag; });
}

void throw_damaged(const fs::path& path, const std::string& reason, const std::string& place) {
  std::string fault = container_fault(path);
  if (fault.empty()) fault = "the file is damaged or truncated" + (reason.empty() ? "" : " (" + reason + ")");
  throw InputMediaError(path.string() + ": " + fault + place);
}

void throw_encrypted(const fs::path& path) {
  throw InputMediaError(fmt::format("{}: {}", path.string(), kEncryptedText));
}

}  // namespace opensora::media
