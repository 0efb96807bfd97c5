#include "text/fix_text.h"

#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>

#include "text/unicode.h"

namespace opensora::text {
namespace {

using icu::UnicodeString;

// The characters of Windows-1252 at 0x80 to 0x9F, which is how browsers read the C1 control characters.
constexpr char16_t kWindows1252[] = {
    0x20AC, 0x0081, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0x008D, 0x017D, 0x008F, 0x0090, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x009D, 0x017E, 0x0178,
};

bool is_c1_control(UChar32 character) { return character >= 0x80 && character <= 0x9F; }

// --- HTML entities --------------------------------------------------------------------------------

// The character of "#233" or "#xE9"; nullopt if it is not a number.
std::optional<UnicodeString> numeric_entity(std::string_view name) {
  const bool hexadecimal = name.size() > 1 && (name[1] == 'x' || name[1] == 'X');
  const std::string_view digits = name.substr(hexadecimal ? 2 : 1);
  if (digits.empty()) return std::nullopt;
  UChar32 character = 0;
  for (const char digit : digits) {
    const int32_t value = u_digit(digit, hexadecimal ? 16 : 10);
    if (value < 0) return std::nullopt;
    character = std::min(character * (hexadecimal ? 16 : 10) + value, UCHAR_MAX_VALUE + 1);
  }
  if (is_c1_control(character)) return UnicodeString(kWindows1252[character - 0x80]);
  if (character == 0 || character > UCHAR_MAX_VALUE || U_IS_SURROGATE(character)) return UnicodeString(u'\uFFFD');
  const bool is_control = u_charType(character) == U_CONTROL_CHAR;
  const bool invalid = (is_control && !u_isUWhiteSpace(character)) || character == 0x0B;
  if (invalid || U_IS_UNICODE_NONCHAR(character)) return UnicodeString();
  if (character == ';') return std::nullopt;  // ftfy takes what still has its semicolon for undecoded
  return UnicodeString(character);
}

// The named character references of HTML, as " name=CODE" or " name=CODE+CODE" in hexadecimal: every name of the HTML
// standard's table that ends in ';' (left out here) and has at most the 24 characters that entity_at() looks for.
constexpr std::string_view kHtmlEntities =
#include "text/html_entities.inc"
    ;

std::optional<UnicodeString> find_entity(const std::string& name) {
  const std::string start = " " + name + "=";
  size_t at = kHtmlEntities.find(start);
  if (at == std::string_view::npos) return std::nullopt;
  at += start.size() - 1;  // its '=' or, then, its '+'
  UnicodeString characters;
  while (kHtmlEntities[at] == '=' || kHtmlEntities[at] == '+') {
    UChar32 character = 0;
    for (++at; u_isxdigit(kHtmlEntities[at]); ++at) character = 16 * character + u_digit(kHtmlEntities[at], 16);
    characters.append(character);
  }
  return characters;
}

std::optional<UnicodeString> named_entity(const std::string& name) {
  if (auto characters = find_entity(name)) return characters;

  // "P&EACUTE;REZ": a lower-case name in capitals means the capital, unless a parser of HTML would stop after one of
  // the names that need no semicolon.
  for (const char* prefix : {"AMP", "COPY", "ETH", "GT", "LT", "QUOT", "REG", "THORN"}) {
    if (name.starts_with(prefix)) return std::nullopt;
  }
  std::string lower = name;
  for (char& letter : lower) {
    if (letter >= 'a' && letter <= 'z') return std::nullopt;
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  auto characters = find_entity(lower);
  if (characters) characters->toUpper(icu::Locale::getRoot());
  return characters;
}

// Decodes the entity whose name starts at `begin`, just after an '&', and sets `end` to where it ends after its ';'.
std::optional<UnicodeString> entity_at(const UnicodeString& text, int32_t begin, int32_t& end) {
  constexpr int32_t kMaxName = 24;
  const int32_t letters = begin + (text[begin] == u'#' ? 1 : 0);
  end = letters;
  while (end - letters <= kMaxName && text[end] < 0x80 && u_isalnum(text[end])) ++end;
  if (end == letters || end - letters > kMaxName || text[end] != u';') return std::nullopt;
  const std::string name = to_utf8(text.tempSubStringBetween(begin, end++));
  return name.starts_with('#') ? numeric_entity(name) : named_entity(name);
}

UnicodeString unescape_html(const UnicodeString& text) {
  UnicodeString unescaped;
  int32_t begin = 0;
  for (int32_t ampersand = 0; (ampersand = text.indexOf(u'&', begin)) >= 0;) {
    unescaped.append(text, begin, ampersand - begin);
    begin = ampersand + 1;
    UnicodeString characters(u'&');
    // Text that was escaped several times ("&amp;amp;lt;"): an '&' that comes out may begin the next entity.
    int32_t end = 0;
    while (characters == UnicodeString(u'&')) {
      const auto entity = entity_at(text, begin, end);
      if (!entity) break;
      characters = *entity;
      begin = end;
    }
    unescaped.append(characters);
  }
  return unescaped.append(text, begin, text.length() - begin);
}

// --- single characters ----------------------------------------------------------------------------

// The letters of a Latin ligature, or nullptr. Not all that NFKC takes apart: ftfy leaves "½" or "㎏" alone.
const char16_t* ligature_letters(char16_t character) {
  switch (character) {
    case u'\u0132':
      return u"IJ";
    case u'\u0133':
      return u"ij";
    case u'\u0149':
      return u"\u02BCn";
    case u'\u01C4':
      return u"D\u017D";
    case u'\u01C5':
      return u"D\u017E";
    case u'\u01C6':
      return u"d\u017E";
    case u'\u01C7':
      return u"LJ";
    case u'\u01C8':
      return u"Lj";
    case u'\u01C9':
      return u"lj";
    case u'\u01CA':
      return u"NJ";
    case u'\u01CB':
      return u"Nj";
    case u'\u01CC':
      return u"nj";
    case u'\u01F1':
      return u"DZ";
    case u'\u01F2':
      return u"Dz";
    case u'\u01F3':
      return u"dz";
    case u'\uFB00':
      return u"ff";
    case u'\uFB01':
      return u"fi";
    case u'\uFB02':
      return u"fl";
    case u'\uFB03':
      return u"ffi";
    case u'\uFB04':
      return u"ffl";
    case u'\uFB05':
      return u"\u017Ft";
    case u'\uFB06':
      return u"st";
    default:
      return nullptr;
  }
}

bool has_other_width(char16_t character) { return character == 0x3000 || (character >= 0xFF01 && character <= 0xFFEF); }

bool is_removed_control(char16_t character) {
  return character <= 0x08 || character == 0x0B || (character >= 0x0E && character <= 0x1F) || character == 0x7F ||
         (character >= 0x206A && character <= 0x206F) || character == 0xFEFF ||
         (character >= 0xFFF9 && character <= 0xFFFC);
}

// Everything that is decided by one character (all of them in the basic plane), except for removal.
UnicodeString replace_characters(const UnicodeString& text, const icu::Normalizer2& nfkc) {
  UnicodeString replaced;
  for (int32_t i = 0; i < text.length(); ++i) {
    const char16_t character = text[i];
    UnicodeString wide;
    if (is_c1_control(character)) {
      replaced.append(kWindows1252[character - 0x80]);
    } else if (const char16_t* letters = ligature_letters(character)) {
      replaced.append(letters, -1);
    } else if (has_other_width(character) && nfkc.getDecomposition(character, wide)) {
      UErrorCode status = U_ZERO_ERROR;
      replaced.append(nfkc.normalize(wide, status));
      check_icu(status, "NFKC");
    } else if (character == 0x02BC || (character >= 0x2018 && character <= 0x201B)) {
      replaced.append(u'\'');
    } else if (character >= 0x201C && character <= 0x201F) {
      replaced.append(u'"');
    } else if (character == u'\r' || character == 0x2028 || character == 0x2029) {
      if (character != u'\r' || text[i + 1] != u'\n') replaced.append(u'\n');
    } else {
      replaced.append(character);
    }
  }
  return replaced;
}

UnicodeString remove_terminal_escapes(const UnicodeString& text) {
  if (text.indexOf(u'\x1b') < 0) return text;
  static const auto kEscape = compile_pattern(uR"(\x1b\[[\d;]*[a-zA-Z])");
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<icu::RegexMatcher> escapes(kEscape->matcher(text, status));
  check_icu(status, "terminal escapes");
  UnicodeString removed = escapes->replaceAll(UnicodeString(), status);
  check_icu(status, "terminal escapes");
  return removed;
}

UnicodeString remove_controls(const UnicodeString& text) {
  UnicodeString removed;
  for (int32_t i = 0; i < text.length(); ++i) {
    if (!is_removed_control(text[i])) removed.append(text[i]);
  }
  return removed;
}

// One line, with its "\n". One fix can make work for another (an entity that gives a ligature): repeated until nothing
// changes. ftfy's care for lone surrogates has no counterpart, since UTF-8 cannot hold them.
UnicodeString fix_line(UnicodeString line, bool unescape) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  const icu::Normalizer2* nfkc = icu::Normalizer2::getNFKCInstance(status);
  check_icu(status, "normalization");
  for (;;) {
    UnicodeString fixed = replace_characters(unescape ? unescape_html(line) : line, *nfkc);
    fixed = nfc->normalize(remove_controls(remove_terminal_escapes(fixed)), status);
    check_icu(status, "NFC");
    if (fixed == line) return fixed;
    line = std::move(fixed);
  }
}

}  // namespace

std::string fix_text(std::string_view utf8) {
  const UnicodeString text = to_utf16(utf8);
  UnicodeString fixed;
  bool unescape = true;
  for (int32_t begin = 0, end = 0; begin < text.length(); begin = end) {
    const int32_t line_break = text.indexOf(u'\n', begin);
    end = line_break < 0 ? text.length() : line_break + 1;
    const UnicodeString line = text.tempSubStringBetween(begin, end);
    unescape = unescape && line.indexOf(u'<') < 0;
    fixed.append(fix_line(line, unescape));
  }
  return to_utf8(fixed);
}

}  // namespace opensora::text
