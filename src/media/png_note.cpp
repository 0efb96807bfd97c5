#include "media/png_note.h"

#include <array>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>

namespace opensora::media {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kSignature = "\x89PNG\r\n\x1A\n"sv;
constexpr std::string_view kKeyword = "opensora unfinished\0"sv;  // of the tEXt chunk
constexpr size_t kEndChunk = 12;                                  // bytes of IEND, always the last

std::string big_endian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

uint32_t read_big_endian(std::string_view bytes) {
  uint32_t value = 0;
  for (const char byte : bytes.substr(0, 4)) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

// The CRC-32 of PNG's specification.
uint32_t crc_of(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xEDB88320 & (0U - (crc & 1)));
  }
  return ~crc;
}

struct Chunk {
  size_t begin = 0, end = 0;  // of all of it
  std::string_view text;      // behind the keyword
};

// Ours, in a whole PNG file.
std::optional<Chunk> find_chunk(std::string_view file) {
  constexpr size_t kAround = 12;  // length, type, CRC
  if (!file.starts_with(kSignature)) return std::nullopt;
  for (size_t at = kSignature.size(); at + kAround <= file.size();) {
    const size_t length = read_big_endian(file.substr(at));
    if (length > file.size() - at - kAround) return std::nullopt;
    const std::string_view type = file.substr(at + 4, 4), data = file.substr(at + 8, length);
    if (type == "tEXt" && data.starts_with(kKeyword)) {
      return Chunk{at, at + kAround + length, data.substr(kKeyword.size())};
    }
    at += kAround + length;
  }
  return std::nullopt;
}

}  // namespace

std::string with_note(std::string file, std::string_view note) {
  const std::string chunk = std::string("tEXt").append(kKeyword).append(note);
  const uint32_t length = static_cast<uint32_t>(kKeyword.size() + note.size());
  return file.insert(file.size() - kEndChunk, big_endian(length) + chunk + big_endian(crc_of(chunk)));
}

std::string without_note(std::string file) {
  if (const auto chunk = find_chunk(file)) file.erase(chunk->begin, chunk->end - chunk->begin);
  return file;
}

std::string read_note(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::array<char, kSignature.size()> start{};
  stream.read(start.data(), start.size());
  if (!stream || std::string_view(start.data(), start.size()) != kSignature) return {};
  const std::string file =
      std::string(kSignature) + std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  const auto chunk = find_chunk(file);
  return chunk ? std::string(chunk->text) : std::string();
}

}  // namespace opensora::media
