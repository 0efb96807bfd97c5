// Files of other programs under the name of a prompts file.
#include <algorithm>
#include <array>
#include <cctype>

#include "batch/prompts_text.h"
#include "core/utf8.h"

namespace opensora::batch {
namespace {

using namespace std::string_view_literals;

const char* const kSaveAsCsv = ", not text: save it as CSV in UTF-8 in the program that made it";

struct Magic {
  std::string_view bytes;
  const char* kind;
  bool is_word = false;  // a prompt may begin so too: what follows has to be no text
};

constexpr std::array kMagics = {
    Magic{"\x1F\x8B"sv, "is compressed (gzip): unpack it first"},
    Magic{"BZh"sv, "is compressed (bzip2): unpack it first", true},
    Magic{"\xFD"
          "7zXZ"sv,
          "is compressed (xz): unpack it first"},
    Magic{"\x28\xB5\x2F\xFD"sv, "is compressed (zstd): unpack it first"},
    Magic{"7z\xBC\xAF"sv, "is an archive (7z): unpack it first"},
    Magic{"Rar!\x1A"sv, "is an archive (RAR): unpack it first"},
    Magic{"%PDF-"sv, "is a PDF, expected text"},
    Magic{"{\\rtf"sv, "is a document in RTF: save it as plain text in UTF-8"},
    Magic{"\x89PNG"sv, "is a picture (PNG), expected text"},
    Magic{"\xFF\xD8\xFF"sv, "is a picture (JPEG), expected text"},
    Magic{"GIF8"sv, "is a picture (GIF), expected text", true},
    Magic{"RIFF"sv, "is a RIFF file (WebP, AVI, WAV), expected text", true},
    Magic{"\x1A\x45\xDF\xA3"sv, "is a video (Matroska, WebM), expected text"},
    Magic{"SQLite format 3"sv, "is an SQLite database: export the table as CSV", true},
    Magic{"PAR1"sv, "is a Parquet file: export the table as CSV", true},
    Magic{"ARROW1"sv, "is an Arrow file: export the table as CSV", true},
    Magic{"\x7F"
          "ELF"sv,
          "is a program, expected text"},
};

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
  if (bytes.starts_with('\0') && bytes.substr(0, 8).ends_with("ftyp"sv))
    return "is a video (MP4) or picture (HEIC), expected text";
  for (const auto& [magic, kind, is_word] : kMagics) {
    if (bytes.starts_with(magic) && !(is_word && is_text(bytes))) return kind;
  }
  return markup_kind(trim(bytes.substr(0, 64 * 1024)));
}

}  // namespace opensora::batch
