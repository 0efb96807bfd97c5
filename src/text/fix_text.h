// The clean-up of CLIP's official tokenizer: what the Python package ftfy 6 does by default (`fix_text`), except for
// its repair of mojibake (text that was decoded in a wrong encoding).
#pragma once

#include <string>
#include <string_view>

namespace opensora::text {

// Returns `utf8` (which must be valid) with
// - HTML entities as the characters they name, up to the first line with a '<': from there on it may be real HTML;
// - Latin ligatures, full-width and half-width forms spelled out, curly quotes made straight;
// - "\n" for every kind of line break;
// - terminal escapes and invisible control characters removed, C1 controls read as Windows-1252;
// - Unicode normalization form C.
std::string fix_text(std::string_view utf8);

}  // namespace opensora::text
