#include "batch/prompts_text.h"

#include <fmt/format.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <optional>
#include <utility>

#include "core/file_kind.h"
#include "core/text.h"

namespace opensora::batch {
namespace {

using namespace std::string_view_literals;

constexpr size_t kHead = 4096;

const char* const kSaveAsCsv = ", not text: save it as CSV in UTF-8 in the program that made it";

bool is_utf8_text(std::string_view bytes) {
  return bytes.find('\0') == std::string_view::npos && !find_invalid_utf8(bytes);
}

bool holds(std::string_view bytes, std::string_view part) { return bytes.find(part) != std::string_view::npos; }

std::string zip_kind(std::string_view bytes) {
  if (holds(bytes, "xl/workbook")) return std::string("is an Excel workbook (.xlsx)") + kSaveAsCsv;
  if (holds(bytes, "opendocument.spreadsheet")) {
    return std::string("is an OpenDocument spreadsheet (.ods)") + kSaveAsCsv;
  }
  if (holds(bytes, ".iwa")) return std::string("is a document of Numbers or Pages (.numbers)") + kSaveAsCsv;
  if (holds(bytes, "word/document")) return "is a Word document (.docx), not text: save it as plain text in UTF-8";
  if (holds(bytes, "opendocument.text")) return "is a document (.odt), not text: save it as plain text in UTF-8";
  if (holds(bytes, "xl/")) return std::string("is an Excel workbook (.xlsx)") + kSaveAsCsv;
  return "is a ZIP archive (or a document packed as one): save a table as CSV in UTF-8, a text as plain text";
}

bool starts_with_word(std::string_view text, std::string_view word) {
  return text.size() >= word.size() && std::equal(word.begin(), word.end(), text.begin(), [](char a, char b) {
           return a == std::tolower(static_cast<unsigned char>(b));
         });
}

std::string markup_kind(std::string_view text) {
  if (starts_with_word(text, "<!doctype html") || starts_with_word(text, "<html")) {
    return "is a web page (HTML), not the file behind it: download that, or save the page's table as CSV";
  }
  if (!text.starts_with("<?xml")) return "";
  const bool is_table = holds(text, "Workbook") || holds(text, "office:spreadsheet");
  return is_table ? std::string("is a spreadsheet in XML") + kSaveAsCsv : "is XML, expected text";
}

// What is no text at all: a picture, an archive, a database.
std::string binary_kind(std::string_view bytes) {
  if (bytes.starts_with("SQLite format 3"sv)) return "is an SQLite database: export the table as CSV";
  if (bytes.starts_with("PAR1"sv)) return "is a Parquet file: export the table as CSV";
  if (bytes.starts_with("ARROW1"sv)) return "is an Arrow file: export the table as CSV";
  const std::optional<FileKind> kind = file_kind(bytes.substr(0, kHead), bytes.size());
  if (!kind || kind->name.starts_with("a text")) return "";
  const bool is_archive = kind->name.ends_with("archive");
  return fmt::format("is {}, expected text{}", kind->name, is_archive ? ": unpack it first" : "");
}

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Zero-width space, marks of direction, word joiner, byte order mark.
bool has_no_width(UChar32 c) {
  return c == 0x200B || c == 0x200E || c == 0x200F || (c >= 0x202A && c <= 0x202E) || c == 0x2060 || c == 0xFEFF;
}

bool is_blank(UChar32 c) { return c >= 0 && (u_isUWhiteSpace(c) != 0 || has_no_width(c)); }

bool is_invisible(UChar32 c) { return c != ' ' && (is_blank(c) || (c >= 0 && c < ' ')); }

// The first character of `text` and its bytes; a byte that belongs to none is -1.
std::pair<UChar32, size_t> decode_first(std::string_view text) {
  int64_t next = 0;
  UChar32 c = 0;
  U8_NEXT(text.data(), next, static_cast<int64_t>(text.size()), c);
  return {c, static_cast<size_t>(next)};
}

}  // namespace

std::string foreign_kind(std::string_view bytes) {
  if (bytes.starts_with("\xFF\xFE"sv) || bytes.starts_with("\xFE\xFF"sv)) {
    return "is UTF-16, expected UTF-8: save it as UTF-8";
  }
  if (bytes.starts_with("\0\0\xFE\xFF"sv)) return "is UTF-32, expected UTF-8: save it as UTF-8";
  if (bytes.starts_with("PK\x03\x04"sv) || bytes.starts_with("PK\x05\x06"sv)) return zip_kind(bytes);
  if (bytes.starts_with("\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv)) {
    return std::string("is an Excel workbook of the old kind (.xls), or a protected one") + kSaveAsCsv;
  }
  if (bytes.starts_with("%PDF-"sv)) return "is a PDF document, expected text";
  if (bytes.starts_with("{\\rtf"sv)) return "is a document in RTF: save it as plain text in UTF-8";
  return is_utf8_text(bytes) ? markup_kind(trim(bytes.substr(0, kHead))) : binary_kind(bytes);
}

std::string_view without_marks(std::string_view text) {
  constexpr char kCtrlZ = '\x1A';
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const size_t last = text.find_last_not_of("\x1A\r\n");
  const size_t mark = text.find(kCtrlZ, last == std::string_view::npos ? 0 : last + 1);
  return text.substr(0, mark);
}

void check_encoding(std::string_view text, RowErrors& errors) {
  if (!find_invalid_utf8(text) && text.find('\0') == std::string_view::npos) return;
  for (int64_t line = 1; !text.empty(); ++line) {
    const std::string_view content = take_line(text);
    if (const auto offset = find_invalid_utf8(content)) {
      errors.add(line, fmt::format("is not valid UTF-8: byte 0x{:02X} at position {}; save the file as UTF-8",
                                   static_cast<uint8_t>(content[*offset]), *offset + 1));
    } else if (const size_t nul = content.find('\0'); nul != std::string_view::npos) {
      errors.add(line, fmt::format("holds a NUL character at position {}; save the file as text in UTF-8", nul + 1));
    }
  }
}

size_t line_end_at(std::string_view text, size_t at) {
  const std::string_view rest = text.substr(at, 3);
  if (rest.starts_with("\r\n")) return 2;
  if (rest.starts_with('\n') || rest.starts_with('\r')) return 1;
  if (rest.starts_with("\xC2\x85")) return 2;                                           // U+0085, NEL
  return rest.starts_with("\xE2\x80\xA8") || rest.starts_with("\xE2\x80\xA9") ? 3 : 0;  // U+2028, U+2029
}

std::string_view take_line(std::string_view& text) {
  for (size_t at = 0;; ++at) {
    at = std::min(text.find_first_of("\n\r\xC2\xE2", at), text.size());
    const size_t end = at < text.size() ? line_end_at(text, at) : 0;
    if (end == 0 && at < text.size()) continue;
    const std::string_view line = text.substr(0, at);
    text.remove_prefix(at + end);
    return line;
  }
}

std::string with_line_feeds(std::string_view json) {
  std::string text;
  text.reserve(json.size());
  bool in_string = false;
  for (size_t at = 0; at < json.size();) {
    const size_t end = line_end_at(json, at);
    const bool is_unicode_end = end > 1 && json[at] != '\r';
    if (end > 0 && !(in_string && is_unicode_end)) {
      text += '\n';
      in_string = false;  // a string of JSON has no line end in it: this one was never closed
      at += end;
      continue;
    }
    if (json[at] == '"') in_string = !in_string;
    const bool is_escape = in_string && json[at] == '\\' && at + 1 < json.size() && line_end_at(json, at + 1) == 0;
    const size_t bytes = is_escape ? 2 : 1;
    text += json.substr(at, bytes);
    at += bytes;
  }
  return text;
}

std::string_view first_character(std::string_view text) { return text.substr(0, decode_first(text).second); }

std::string_view trim(std::string_view text) {
  while (!text.empty()) {
    const auto [character, bytes] = decode_first(text);
    if (!is_blank(character)) break;
    text.remove_prefix(bytes);
  }
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && U8_IS_TRAIL(text[start])) --start;
    const auto [character, bytes] = decode_first(text.substr(start));
    if (!is_blank(character) || start + bytes != text.size()) break;
    text.remove_suffix(bytes);
  }
  return text;
}

std::string without_invisible(std::string_view text) {
  std::string rest;
  while (!text.empty()) {
    const auto [character, bytes] = decode_first(text);
    if (!is_invisible(character)) rest += text.substr(0, bytes);
    text.remove_prefix(bytes);
  }
  return rest;
}

std::string visible(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const auto [character, bytes] = decode_first(text);
    if (is_invisible(character)) {
      shown += fmt::format("<U+{:04X}>", static_cast<uint32_t>(character));
    } else {
      shown += text.substr(0, bytes);
    }
    text.remove_prefix(bytes);
  }
  return shown;
}

}  // namespace opensora::batch
