// Files of other programs under the name of a prompts file.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "batch/prompts_text.h"
#include "core/file_kind.h"
#include "core/text.h"

namespace opensora::batch {
namespace {

using namespace std::string_view_literals;

constexpr size_t kHead = 4096;

const char* const kSaveAsCsv = ", not text: save it as CSV in UTF-8 in the program that made it";

bool is_text(std::string_view bytes) { return bytes.find('\0') == std::string_view::npos && !find_invalid_utf8(bytes); }

bool holds(std::string_view bytes, std::string_view part) { return bytes.find(part) != std::string_view::npos; }

std::string zip_kind(std::string_view bytes) {
  if (holds(bytes, "xl/workbook")) return std::string("is an Excel workbook (.xlsx)") + kSaveAsCsv;
  if (holds(bytes, "opendocument.spreadsheet"))
    return std::string("is an OpenDocument spreadsheet (.ods)") + kSaveAsCsv;
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
  return is_text(bytes) ? markup_kind(trim(bytes.substr(0, kHead))) : binary_kind(bytes);
}

}  // namespace opensora::batch
