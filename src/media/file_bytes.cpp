#include "media/file_bytes.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

namespace opensora::media {

ReadBytes bytes_of_file(const std::filesystem::path& path) {
  auto file = std::make_shared<std::ifstream>(path, std::ios::binary);
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  return [file, size = error ? 0 : size](uint64_t offset, size_t count) {
    if (offset >= size) return std::string();
    std::string bytes(std::min<uint64_t>(count, size - offset), '\0');
    file->clear();
    file->seekg(static_cast<std::streamoff>(offset));
    file->read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    bytes.resize(static_cast<size_t>(std::max<std::streamsize>(file->gcount(), 0)));
    return bytes;
  };
}

ReadBytes bytes_of_text(std::string text) {
  return [text = std::move(text)](uint64_t offset, size_t count) {
    return offset >= text.size() ? std::string() : text.substr(offset, count);
  };
}

uint64_t big_endian(std::string_view text, size_t bytes) {
  uint64_t value = 0;
  if (text.size() < bytes) return 0;
  for (size_t i = 0; i < bytes; ++i) value = value << 8 | static_cast<uint8_t>(text[i]);
  return value;
}

uint64_t little_endian(std::string_view text, size_t bytes) {
  uint64_t value = 0;
  if (text.size() < bytes) return 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<uint8_t>(text[i]);
  return value;
}

}  // namespace opensora::media
