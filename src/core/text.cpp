#include "core/text.h"

#include <unicode/utf8.h>

#include <algorithm>
#include <cctype>
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

std::string to_lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string slug(std::string_view text, size_t soft, size_t hard) {
  std::string words;
  for (const unsigned char c : text) {
    if (words.size() >= hard) break;
    if (std::isalnum(c) != 0) {
      words += static_cast<char>(std::tolower(c));
    } else if (!words.empty() && words.back() != '-') {
      if (words.size() >= soft) break;
      words += '-';
    }
  }
  while (!words.empty() && words.back() == '-') words.pop_back();
  return words;
}

std::string prompt_slug(std::string_view prompt) {
  const std::string words = slug(prompt, 40, 80);
  return words.empty() ? "video" : words;
}

}  // namespace opensora
