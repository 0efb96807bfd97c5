#include "batch/prompts_csv.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "batch/prompts_text.h"
#include "batch/row_errors.h"

namespace opensora::batch {
namespace {

// CSV as RFC 4180 has it, and as spreadsheets write it: with other separators.

struct CsvRecord {
  int64_t line = 0, last_line = 0;  // on which it starts and ends, from 1
  std::vector<std::string> cells;
  bool damaged = false;  // an error has been added: how many cells there are means nothing

  // No cell holds anything but white space: what spreadsheets write for rows that only look empty.
  bool is_blank() const;
};

class CsvParser {
 public:
  CsvParser(std::string_view text, char separator, RowErrors& errors, int64_t first_line)
      : text_(text), ends_plain_cell_({separator, '\n', '\r', '\xC2', '\xE2'}), errors_(errors), line_(first_line) {}

  bool at_end() const { return at_ == text_.size(); }

  CsvRecord read_record() {
    CsvRecord record;
    record.line = line_;
    damaged_ = false;
    record.cells.push_back(read_cell());
    while (at_separator()) {
      ++at_;
      record.cells.push_back(read_cell());
    }
    record.last_line = line_;
    record.damaged = damaged_;
    if (!at_end()) {
      at_ += line_end_at(text_, at_);
      ++line_;
    }
    return record;
  }

 private:
  bool at_separator() const { return !at_end() && text_[at_] == ends_plain_cell_.front(); }
  bool at_cell_end() const { return at_end() || at_separator() || line_end_at(text_, at_) > 0; }

  // Only the first error of a record is told, as those that follow mostly come of it.
  void add_error(int64_t line, const std::string& message) {
    if (!std::exchange(damaged_, true)) errors_.add(line, message);
  }

  // Reads up to the separator, the line end or the end of the text, which stays.
  std::string read_cell() {
    const size_t begin = at_;
    skip_blanks();
    const bool is_quoted = !at_end() && text_[at_] == '"';
    if (is_quoted && at_ > begin) {
      add_error(line_, "a space stands in front of an opening quote; a quoted cell starts right behind the separator");
    }
    if (is_quoted) return read_quoted();
    at_ = begin;
    return std::string(read_plain());
  }

  std::string_view read_plain() {
    const size_t begin = at_;
    for (;; ++at_) {
      at_ = std::min(text_.find_first_of(ends_plain_cell_, at_), text_.size());
      if (at_cell_end()) return text_.substr(begin, at_ - begin);
    }
  }

  // Skips white space that ends no cell, and characters without width.
  void skip_blanks() {
    while (!at_cell_end()) {
      const std::string_view character = first_character(text_.substr(at_));
      if (!trim(character).empty()) return;
      at_ += character.size();
    }
  }

  std::string read_quoted() {
    const int64_t first_line = line_;
    std::string cell;
    ++at_;  // the opening quote
    for (;;) {
      const size_t quote = text_.find('"', at_);
      take(std::min(quote, text_.size()), cell);
      if (quote == std::string_view::npos) {
        add_error(first_line, "a quote is opened and never closed");
        return cell;
      }
      ++at_;
      if (at_end() || text_[at_] != '"') break;
      cell += '"';
      ++at_;
    }
    skip_blanks();
    if (!at_cell_end()) {
      add_error(first_line, "text behind a closing quote; a quote within a quoted cell is written twice: \"\"");
      read_plain();
    }
    return cell;
  }

  // Moves the text up to `end` into the cell, and counts its lines.
  void take(size_t end, std::string& cell) {
    const std::string_view taken = text_.substr(at_, end - at_);
    cell += taken;
    for (size_t at = 0; (at = taken.find_first_of("\n\r\xC2\xE2", at)) != std::string_view::npos;) {
      const size_t bytes = line_end_at(taken, at);
      if (bytes > 0) ++line_;
      at += std::max<size_t>(bytes, 1);
    }
    at_ = end;
  }

  std::string_view text_;
  std::string ends_plain_cell_;  // the separator first
  RowErrors& errors_;
  size_t at_ = 0;
  int64_t line_;
  bool damaged_ = false;
};

bool CsvRecord::is_blank() const {
  return std::all_of(cells.begin(), cells.end(), [](const std::string& cell) { return trim(cell).empty(); });
}

// Cells are separated by `separator`, records by line ends of any kind (line_end_at()). A cell in double quotes may
// hold all of these, and quotes doubled; what is quoted is kept byte for byte, and white space behind the closing quote
// is left out. A quote within a cell that does not start with one stands for itself, as spreadsheets and Python write
// and read it. Blank lines are left out. Takes time linear in the text. Adds an error, one a record, for a quote that
// is never closed, for text behind a closing one, and for white space in front of an opening one, where RFC 4180 has no
// quoted cell and other programs do. `first_line` is the text's number.
std::vector<CsvRecord> parse_csv(std::string_view text, char separator, RowErrors& errors, int64_t first_line) {
  CsvParser parser(text, separator, errors, first_line);
  std::vector<CsvRecord> records;
  while (!parser.at_end()) {
    CsvRecord record = parser.read_record();
    if (record.damaged || !record.is_blank()) records.push_back(std::move(record));
  }
  return records;
}

// The first record that is not blank, as parse_csv() has it; without cells where there is none.
CsvRecord first_csv_record(std::string_view text, char separator, RowErrors& errors) {
  CsvParser parser(text, separator, errors, 1);
  while (!parser.at_end()) {
    CsvRecord record = parser.read_record();
    if (record.damaged || !record.is_blank()) return record;
  }
  return {};
}

using Type = JsonValue::Type;

constexpr std::string_view kSeparators = ",;\t|";

std::string plural_of(char separator) {
  switch (separator) {
    case ',':
      return "commas";
    case ';':
      return "semicolons";
    case '\t':
      return "tabs";
    default:
      return std::string(1, separator);
  }
}

size_t count_known(const CsvRecord& headings, const RowBuilder& builder) {
  return static_cast<size_t>(std::count_if(headings.cells.begin(), headings.cells.end(),
                                           [&](const std::string& heading) { return builder.knows(heading); }));
}

char find_separator(std::string_view text, char usual, const RowBuilder& builder) {
  const auto score = [&](char separator) {
    RowErrors unused("");
    const CsvRecord headings = first_csv_record(text, separator, unused);
    return std::pair(count_known(headings, builder), headings.cells.size());
  };
  char best = usual;
  auto highest = score(usual);
  for (const char separator : kSeparators) {
    if (const auto reached = score(separator); reached > highest) {
      highest = reached;
      best = separator;
    }
  }
  return best;
}

// Excel's "sep=;", also in quotes or with separators behind it, is taken off the text.
std::optional<char> take_separator_line(std::string_view& text, RowErrors& errors) {
  constexpr std::string_view kKey = "sep=";
  std::string_view rest = text;
  std::string_view line = take_line(rest);
  if (line.starts_with('"')) line = line.substr(1, line.find('"', 1) - 1);
  const bool is_key = line.size() > kKey.size() &&
                      std::equal(kKey.begin(), kKey.end(), line.begin(),
                                 [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); });
  if (!is_key) return std::nullopt;
  text = rest;
  const char separator = line[kKey.size()];
  if (kSeparators.find(separator) == std::string_view::npos) {
    errors.add(1, fmt::format("sep=: expected a comma, a semicolon, | or a tab, found {}",
                              visible(first_character(line.substr(kKey.size())))));
  }
  return separator;
}

// The column of each heading, nullptr where it means none. Headings that are empty to the end of the row are none:
// spreadsheets write as many cells as their widest row has.
std::vector<const Column*> find_columns(const CsvRecord& headings, RowBuilder& builder, RowErrors& errors) {
  size_t count = headings.cells.size();
  while (count > 0 && trim(headings.cells[count - 1]).empty()) --count;
  std::vector<const Column*> columns;
  columns.reserve(count);
  std::set<std::string> seen;
  for (size_t c = 0; c < count; ++c) {
    const std::string& heading = headings.cells[c];
    const Column* column = builder.find_column(heading, headings.line);
    if (column != nullptr && !seen.insert(column->name).second) {
      errors.add(headings.line, fmt::format("column \"{}\": there is another of the same meaning", heading));
    }
    columns.push_back(column);
  }
  return columns;
}

bool starts_with_typographic_quote(std::string_view cell) {
  constexpr std::array<std::string_view, 8> kQuotes = {"“", "”", "„", "‟", "«", "»", "‘", "’"};
  cell = trim(cell);
  return std::any_of(kQuotes.begin(), kQuotes.end(), [&](std::string_view quote) { return cell.starts_with(quote); });
}

std::string wrong_count(const CsvRecord& record, size_t expected, char separator) {
  const bool has_quote = std::any_of(record.cells.begin(), record.cells.end(), starts_with_typographic_quote);
  return fmt::format("expected {} cells as in the headings, found {}; {}", expected, record.cells.size(),
                     has_quote ? "a cell is quoted with \", not with typographic quotes (“ ”)"
                               : "a cell with " + plural_of(separator) + " needs quotes");
}

// "7,5" -> "7.5": programs that do not separate cells by commas write numbers with them.
std::string with_decimal_point(const std::string& text) {
  const size_t comma = text.find(',');
  const std::string digits = "0123456789";
  const size_t first = text.find_first_not_of(" +-");
  if (comma == std::string::npos || first == std::string::npos || comma + 1 == text.size()) return text;
  std::string number = text;
  number[comma] = '.';
  const bool is_number =
      text.find_first_not_of(digits, first) == comma && text.find_first_not_of(digits, comma + 1) == std::string::npos;
  return is_number ? number : text;
}

// The row of a record, or nullopt and an error.
std::optional<Row> make_row(const CsvRecord& record, const CsvRecord& headings,
                            const std::vector<const Column*>& columns, char separator, RowBuilder& builder,
                            RowErrors& errors) {
  const size_t errors_before = errors.size();
  if (record.damaged || errors.has(record.line, record.last_line)) return std::nullopt;  // its encoding is wrong
  Row row{record.line, {}};
  if (record.cells.size() != headings.cells.size()) {
    errors.add(record.line, wrong_count(record, headings.cells.size(), separator));
    return std::nullopt;
  }
  for (size_t c = 0; c < record.cells.size(); ++c) {
    const std::string& cell = record.cells[c];
    if (c >= columns.size()) {
      if (!trim(cell).empty()) errors.add(record.line, "a cell in a column without a heading");
    } else if (const Column* column = columns[c]) {
      const bool is_words = column->kind == request::Kind::kPrompt || column->name == "name";
      const bool may_be_number = !is_words && !column->is_list() && !column->is_path() && separator != ',';
      builder.add(row, *column, {Type::kString, may_be_number ? with_decimal_point(cell) : cell, {}}, false);
    } else {
      row.lacks_columns = true;
    }
  }
  return errors.size() == errors_before ? std::optional(std::move(row)) : std::nullopt;
}

}  // namespace

std::vector<Row> csv_rows(std::string_view text, char usual, RowBuilder& builder, RowErrors& errors) {
  const std::optional<char> given = text.empty() ? std::nullopt : take_separator_line(text, errors);
  if (given && !errors.empty()) return {};
  const char separator = given ? *given : find_separator(text, usual, builder);
  if (separator != usual) spdlog::info("{}: its cells are separated by {}", errors.file(), plural_of(separator));
  const std::vector<CsvRecord> records = parse_csv(text, separator, errors, given ? 2 : 1);
  if (records.empty()) return {};
  const CsvRecord& headings = records.front();
  if (headings.damaged || errors.has(headings.line, headings.last_line)) return {};
  const std::vector<const Column*> columns = find_columns(headings, builder, errors);
  std::vector<Row> rows;
  rows.reserve(records.size() - 1);
  for (size_t i = 1; i < records.size(); ++i) {
    if (auto row = make_row(records[i], headings, columns, separator, builder, errors)) rows.push_back(std::move(*row));
  }
  return rows;
}

bool has_csv_headings(std::string_view text, const RowBuilder& builder) {
  RowErrors unused("");
  for (const char separator : kSeparators) {
    const CsvRecord headings = first_csv_record(text, separator, unused);
    const auto is_prompt = [&](const std::string& heading) { return builder.is_prompt(heading); };
    if (headings.cells.size() > 1 && count_known(headings, builder) == headings.cells.size() &&
        std::any_of(headings.cells.begin(), headings.cells.end(), is_prompt)) {
      return true;
    }
  }
  return false;
}

}  // namespace opensora::batch
