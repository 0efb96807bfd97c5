// Small Unicode helpers of the tokenizers, over ICU.
#pragma once

#include <unicode/regex.h>
#include <unicode/unistr.h>

#include <memory>
#include <string>
#include <string_view>

namespace opensora::text {

// Throws UsageError "<what> is not valid UTF-8: byte 0xC3 at offset 12" (offset in bytes, from 0).
void check_utf8(std::string_view text, const std::string& what);

// `text` must be valid UTF-8.
icu::UnicodeString to_utf16(std::string_view text);
std::string to_utf8(const icu::UnicodeString& text);

// Throws std::runtime_error "ICU: <what>: U_..." if `status` is a failure: no text should lead to one.
void check_icu(UErrorCode status, const char* what);

std::unique_ptr<const icu::RegexPattern> compile_pattern(const char16_t* pattern);

// As Python's str.isspace(): Unicode white space and the four information separators.
bool is_space(UChar32 c);

// Every run of white space (Unicode's White_Space property) becomes one space; none is left at either end.
icu::UnicodeString collapse_white_space(const icu::UnicodeString& text);

// The first few words of a text, for messages: at most 6 words and 60 characters, white space collapsed, U+FFFD for
// what is not valid UTF-8.
std::string excerpt(std::string_view text);

}  // namespace opensora::text
