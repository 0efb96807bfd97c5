#include "batch/csv.h"

#include <algorithm>
#include <utility>

#include "batch/prompts_text.h"

namespace opensora::batch {
namespace {

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

  // Of a record only the first is told: what follows it is most often its consequence.
  void add_error(int64_t line, const std::string& message) {
    if (!std::exchange(damaged_, true)) errors_.add(line, message);
  }

  // Up to the separator, line end or end, which is left.
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

  // White space that ends no cell, and what has no width.
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

  // The text up to `end`, with its lines counted.
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

}  // namespace

bool CsvRecord::is_blank() const {
  return std::all_of(cells.begin(), cells.end(), [](const std::string& cell) { return trim(cell).empty(); });
}

std::vector<CsvRecord> parse_csv(std::string_view text, char separator, RowErrors& errors, int64_t first_line) {
  CsvParser parser(text, separator, errors, first_line);
  std::vector<CsvRecord> records;
  while (!parser.at_end()) {
    CsvRecord record = parser.read_record();
    if (record.damaged || !record.is_blank()) records.push_back(std::move(record));
  }
  return records;
}

CsvRecord first_csv_record(std::string_view text, char separator, RowErrors& errors) {
  CsvParser parser(text, separator, errors, 1);
  while (!parser.at_end()) {
    CsvRecord record = parser.read_record();
    if (record.damaged || !record.is_blank()) return record;
  }
  return {};
}

}  // namespace opensora::batch
