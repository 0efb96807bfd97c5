#include "core/utf8.h"

#include <unicode/utf8.h>

#include <cstdint>

namespace opensora {

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  const auto length = static_cast<int64_t>(text.size());
  for (int64_t next = 0; next < length;) {
    const int64_t offset = next;
    UChar32 character = 0;
    U8_NEXT(text.data(), next, length, character);
    if (character < 0) return static_cast<size_t>(offset);
  }
  return std::nullopt;
}

std::string_view cut_utf8(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  size_t end = bytes;
  while (end > 0 && U8_IS_TRAIL(text[end])) --end;
  return text.substr(0, end);
}

}  // namespace opensora
