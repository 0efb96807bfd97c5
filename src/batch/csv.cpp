#include "batch/csv.h"

#include <algorithm>
#include <utility>

namespace opensora::batch {
namespace {

class CsvParser {
 public:
  CsvParser(std::string_view text, RowErrors& errors) : text_(text), errors_(errors) {}

  std::vector<CsvRecord> parse() {
    std::vector<CsvRecord> records;
    while (!at_end()) {
      const bool blank = at_line_break();
      CsvRecord record = read_record();
      if (!blank) records.push_back(std::move(record));
    }
    return records;
  }

 private:
  bool at_end() const { return at_ == text_.size(); }
  bool at_line_break() const { return !at_end() && (text_[at_] == '\n' || text_[at_] == '\r'); }

  CsvRecord read_record() {
    CsvRecord record;
    record.line = line_;
    const size_t errors_before = errors_.size();
    record.cells.push_back(read_cell());
    while (!at_end() && text_[at_] == ',') {
      ++at_;
      record.cells.push_back(read_cell());
    }
    skip_line_break();
    record.damaged = errors_.size() > errors_before;
    return record;
  }

  void skip_line_break() {
    if (at_end()) return;
    at_ += text_.substr(at_).starts_with("\r\n") ? 2 : 1;
    ++line_;
  }

  // Up to the comma, line break or end, which is left.
  std::string read_cell() { return !at_end() && text_[at_] == '"' ? read_quoted() : std::string(read_plain()); }

  std::string_view read_plain() {
    const size_t begin = at_;
    at_ = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    return text_.substr(begin, at_ - begin);
  }

  std::string read_quoted() {
    const int64_t first_line = line_;
    std::string cell;
    ++at_;  // the opening quote
    for (;;) {
      const size_t quote = text_.find('"', at_);
      take(std::min(quote, text_.size()), cell);
      if (quote == std::string_view::npos) {
        errors_.add(first_line, "a quote is opened and never closed");
        return cell;
      }
      ++at_;
      if (at_end() || text_[at_] != '"') break;
      cell += '"';
      ++at_;
    }
    if (!at_end() && text_[at_] != ',' && !at_line_break()) {
      errors_.add(first_line, "text behind a closing quote; a quote within a quoted cell is written twice: \"\"");
      read_plain();
    }
    return cell;
  }

  // The text up to `end`, with its line breaks counted.
  void take(size_t end, std::string& cell) {
    const std::string_view taken = text_.substr(at_, end - at_);
    for (size_t i = 0; i < taken.size(); ++i) {
      const bool crlf = taken[i] == '\r' && i + 1 < taken.size() && taken[i + 1] == '\n';
      if (taken[i] == '\n' || (taken[i] == '\r' && !crlf)) ++line_;
    }
    cell += taken;
    at_ = end;
  }

  std::string_view text_;
  RowErrors& errors_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRecord> parse_csv(std::string_view text, RowErrors& errors) { return CsvParser(text, errors).parse(); }

}  // namespace opensora::batch
