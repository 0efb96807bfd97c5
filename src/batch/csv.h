// CSV as RFC 4180 has it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "batch/row_errors.h"

namespace opensora::batch {

struct CsvRecord {
  int64_t line = 0;  // on which it starts, from 1
  std::vector<std::string> cells;
  bool damaged = false;  // an error has been added: how many cells there are means nothing
};

// Cells are separated by commas, records by LF, CRLF or CR. A cell in double quotes may hold all of these, and quotes
// doubled; what is quoted is kept byte for byte. A quote within a cell that does not start with one stands for itself,
// as spreadsheets and Python write and read it. Blank lines are left out. Takes time linear in the text.
// Adds an error for a quote that is never closed and for text behind a closing one.
std::vector<CsvRecord> parse_csv(std::string_view text, RowErrors& errors);

}  // namespace opensora::batch
