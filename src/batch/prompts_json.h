// The rows of a JSON or JSON Lines file, each with its line, and numbers as they were spelled.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "batch/row_errors.h"

namespace opensora::batch {

struct JsonValue {
  enum class Type { kNull, kBoolean, kNumber, kString, kList, kObject };
  Type type = Type::kNull;
  std::string text;              // of a string its characters, of a number its spelling in the file, "true", "false"
  std::vector<JsonValue> items;  // of a list
};

struct JsonRow {
  int64_t line = 0;                                        // on which it starts, from 1
  JsonValue value;                                         // what it is where it is no object
  std::vector<std::pair<std::string, JsonValue>> members;  // of an object (value.type is kObject), in order
};

// Both functions take UTF-8 whose lines end with LF (with_line_feeds()).

// Parses a list of rows. Text that is not a JSON list is an error, and gives no rows.
std::vector<JsonRow> parse_json_rows(std::string_view text, RowErrors& errors);

// Parses one row per line, and skips blank lines. A line that is not JSON is an error; the others are read
// nevertheless.
std::vector<JsonRow> parse_json_lines(std::string_view text, RowErrors& errors);

}  // namespace opensora::batch
