#include "batch/prompts_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ranges>

#include "batch/prompts_text.h"
#include "core/json_text.h"

namespace opensora::batch {
namespace {

using nlohmann::json;
using Type = JsonValue::Type;

// What lies `row_depth` brackets deep becomes rows.
class RowReader final : public nlohmann::json_sax<json> {
 public:
  // `line` is that of the character which was read last: the parser itself does not tell where a value stands.
  RowReader(size_t row_depth, const int64_t& line) : row_depth_(row_depth), line_(line) {}

  std::vector<JsonRow> rows;
  std::string error;  // empty: none
  int64_t error_line = 0;

  bool null() override { return add({Type::kNull, "null", {}}); }
  bool boolean(bool value) override { return add({Type::kBoolean, value ? "true" : "false", {}}); }
  bool number_integer(number_integer_t value) override { return add({Type::kNumber, std::to_string(value), {}}); }
  bool number_unsigned(number_unsigned_t value) override { return add({Type::kNumber, std::to_string(value), {}}); }
  bool number_float(number_float_t /*value*/, const string_t& text) override { return add({Type::kNumber, text, {}}); }
  bool string(string_t& text) override { return add({Type::kString, std::move(text), {}}); }
  bool binary(binary_t& /*never in text*/) override { return false; }

  bool start_object(std::size_t /*unknown*/) override {
    if (!add({Type::kObject, "", {}})) return false;
    return enter();
  }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t /*unknown*/) override {
    if (depth_ >= row_depth_ && !add({Type::kList, "", {}})) return false;
    return enter();
  }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    if (depth_ == row_depth_ + 1) rows.back().members.emplace_back(std::move(name), JsonValue{});
    return true;
  }
  bool parse_error(std::size_t /*position*/, const std::string& /*token*/, const json::exception& e) override {
    return fail("not valid JSON: " + json_error_text(e));
  }

 private:
  bool enter() {
    return ++depth_ <= kMaxJsonDepth || fail("is nested too deep: no value of a row is deeper than a list");
  }

  bool leave() {
    --depth_;
    return true;
  }

  bool fail(const std::string& message) {
    error = message;
    error_line = line_;
    return false;
  }

  bool add(JsonValue value) {
    if (depth_ < row_depth_) {
      return fail("expected a list of objects or of prompts: [{\"prompt\": …}, …]; a row a line is JSON Lines, .jsonl");
    }
    if (depth_ == row_depth_) {
      rows.push_back({line_, std::move(value), {}});
      return true;
    }
    if (depth_ > row_depth_ + 2) return true;  // deeper than any value may be: its place says so already
    JsonRow& row = rows.back();
    JsonValue& target = row.value.type == Type::kObject ? row.members.back().second : row.value;
    const bool is_item = depth_ == row_depth_ + 2 || row.value.type == Type::kList;
    if (!is_item) {
      target = std::move(value);
    } else if (target.type == Type::kList) {
      target.items.push_back(std::move(value));
    }
    return true;
  }

  size_t row_depth_;
  const int64_t& line_;
  size_t depth_ = 0;
};

// The parser counts lines within a row; the row's own is told already.
std::string without_line(std::string error) {
  constexpr std::string_view kLine = "at line 1, ";
  if (const size_t at = error.find(kLine); at != std::string::npos) error.erase(at + 3, kLine.size() - 3);
  return error;
}

}  // namespace

std::vector<JsonRow> parse_json_rows(std::string_view text, RowErrors& errors) {
  int64_t line = 1;
  const char* last = text.data();
  const auto counted = std::views::transform(text, [&](const char& c) {
    line += std::count(last, &c, '\n');
    last = &c;
    return c;
  });
  RowReader reader(1, line);
  if (json::sax_parse(counted.begin(), counted.end(), &reader)) return std::move(reader.rows);
  errors.add(reader.error_line, reader.error);
  return {};
}

std::vector<JsonRow> parse_json_lines(std::string_view text, RowErrors& errors) {
  std::vector<JsonRow> rows;
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view content = trim(text.substr(begin, end - begin));
    begin = end + 1;
    ++line;
    if (content.empty() || errors.has(line, line)) continue;  // or its encoding is wrong
    RowReader reader(0, line);
    if (!json::sax_parse(content.begin(), content.end(), &reader)) {
      errors.add(line, without_line(reader.error));
      continue;
    }
    rows.push_back(std::move(reader.rows.front()));
  }
  return rows;
}

}  // namespace opensora::batch
