// CSV as RFC 4180 has it, and as spreadsheets write it: with other separators.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "batch/row_errors.h"

namespace opensora::batch {

struct CsvRecord {
  int64_t line = 0, last_line = 0;  // on which it starts and ends, from 1
  std::vector<std::string> cells;
  bool damaged = false;  // an error has been added: how many cells there are means nothing

  // No cell holds anything but white space: what spreadsheets write for rows that only look empty.
  bool is_blank() const;
};

// Cells are separated by `separator`, records by line ends of any kind (line_end_at()). A cell in double quotes may
// hold all of these, and quotes doubled; what is quoted is kept byte for byte, and white space behind the closing quote
// is left out. A quote within a cell that does not start with one stands for itself, as spreadsheets and Python write
// and read it. Blank lines are left out. Takes time linear in the text. Adds an error, one a record, for a quote that
// is never closed, for text behind a closing one, and for white space in front of an opening one, where RFC 4180 has no
// quoted cell and other programs do. `first_line` is the text's number.
std::vector<CsvRecord> parse_csv(std::string_view text, char separator, RowErrors& errors, int64_t first_line = 1);

// The first record that is not blank, as parse_csv() has it; without cells where there is none.
CsvRecord first_csv_record(std::string_view text, char separator, RowErrors& errors);

}  // namespace opensora::batch
