#include "text/unicode.h"

#include <fmt/format.h>
#include <unicode/uchar.h>

#include <optional>
#include <stdexcept>

#include "core/text.h"
#include "opensora/error.h"

namespace opensora::text {
namespace {

constexpr int kExcerptWords = 6;
constexpr int kExcerptCharacters = 60;

}  // namespace

void check_utf8(std::string_view text, const std::string& what) {
  const std::optional<size_t> offset = find_invalid_utf8(text);
  if (!offset) return;
  const auto byte = static_cast<uint8_t>(text[*offset]);
  throw UsageError(fmt::format("{} is not valid UTF-8: byte 0x{:02X} at offset {}", what, byte, *offset));
}

icu::UnicodeString to_utf16(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

std::string to_utf8(const icu::UnicodeString& text) {
  std::string utf8;
  text.toUTF8String(utf8);
  return utf8;
}

void check_icu(UErrorCode status, const char* what) {
  if (U_FAILURE(status)) throw std::runtime_error(fmt::format("ICU: {}: {}", what, u_errorName(status)));
}

std::unique_ptr<const icu::RegexPattern> compile_pattern(const char16_t* pattern) {
  UErrorCode status = U_ZERO_ERROR;
  std::unique_ptr<const icu::RegexPattern> compiled(icu::RegexPattern::compile(pattern, 0, status));
  check_icu(status, "pattern");
  return compiled;
}

bool is_space(UChar32 c) { return u_isUWhiteSpace(c) != 0 || (c >= 0x1C && c <= 0x1F); }

icu::UnicodeString collapse_white_space(const icu::UnicodeString& text) {
  icu::UnicodeString collapsed;
  bool space_before = false;
  for (int32_t i = 0; i < text.length(); ++i) {
    const char16_t unit = text[i];  // all white space is in the basic plane: no need to join surrogates
    if (u_isUWhiteSpace(unit)) {
      space_before = true;
      continue;
    }
    if (space_before && !collapsed.isEmpty()) collapsed.append(u' ');
    space_before = false;
    collapsed.append(unit);
  }
  return collapsed;
}

std::string excerpt(std::string_view text) {
  icu::UnicodeString words = collapse_white_space(to_utf16(text));
  int32_t end = 0;
  for (int word = 0, characters = 0; end < words.length() && characters < kExcerptCharacters; ++characters) {
    if (words[end] == u' ' && ++word == kExcerptWords) break;
    end = words.moveIndex32(end, 1);
  }
  words.truncate(end);
  return to_utf8(words.trim());
}

}  // namespace opensora::text
