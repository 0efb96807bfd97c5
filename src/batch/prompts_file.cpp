#include "batch/prompts_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <set>

#include "batch/csv.h"
#include "batch/prompts_json.h"
#include "batch/row_builder.h"
#include "core/utf8.h"
#include "opensora/error.h"

namespace opensora::batch {
namespace {

namespace fs = std::filesystem;
using Type = JsonValue::Type;

std::string read_all(const fs::path& file) {
  if (file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::error_code unreadable;
  if (fs::is_directory(file, unreadable)) throw UsageError(file.string() + ": is a folder, expected a prompts file");
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw UsageError(file.string() + ": cannot be read: " + std::strerror(errno));
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad()) throw UsageError(file.string() + ": cannot be read: " + std::strerror(errno));
  return text;
}

PromptsFormat format_of(const fs::path& file) {
  if (file == "-") return PromptsFormat::kText;
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".txt") return PromptsFormat::kText;
  if (extension == ".csv") return PromptsFormat::kCsv;
  if (extension == ".json") return PromptsFormat::kJson;
  if (extension == ".jsonl") return PromptsFormat::kJsonLines;
  throw UsageError(
      fmt::format("{}: expected a file in .txt, .csv, .json or .jsonl, found \"{}\"; or say which with "
                  "--prompts-format",
                  file.string(), extension));
}

// Each line that is not UTF-8 is an error.
void check_encoding(std::string_view text, RowErrors& errors) {
  if (!find_invalid_utf8(text)) return;
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view content = text.substr(begin, end - begin);
    ++line;
    if (const auto offset = find_invalid_utf8(content)) {
      errors.add(line, fmt::format("is not valid UTF-8: byte 0x{:02X} at position {}",
                                   static_cast<uint8_t>(content[*offset]), *offset + 1));
    }
    begin = end + 1;
  }
}

std::vector<Row> text_rows(std::string_view text) {
  std::vector<Row> rows;
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view content = text.substr(begin, end - begin);
    begin = end + 1;
    ++line;
    const size_t first = content.find_first_not_of(" \t\r");
    if (first == std::string_view::npos || content[first] == '#') continue;
    const size_t last = content.find_last_not_of(" \t\r");
    rows.push_back({line, {{"prompt", std::string(content.substr(first, last - first + 1))}}});
  }
  return rows;
}

// The column of each heading, nullptr where it means none.
std::vector<const Column*> find_columns(const CsvRecord& headings, RowBuilder& builder, RowErrors& errors) {
  std::vector<const Column*> columns;
  columns.reserve(headings.cells.size());
  std::set<std::string> seen;
  for (const std::string& heading : headings.cells) {
    const Column* column = builder.find_column(heading, headings.line);
    if (column != nullptr && !seen.insert(column->name).second) {
      errors.add(headings.line, fmt::format("column \"{}\": there is another of the same meaning", heading));
    }
    columns.push_back(column);
  }
  return columns;
}

std::vector<Row> csv_rows(std::string_view text, RowBuilder& builder, RowErrors& errors) {
  const std::vector<CsvRecord> records = parse_csv(text, errors);
  std::vector<Row> rows;
  if (records.empty()) return rows;
  const std::vector<const Column*> columns = find_columns(records.front(), builder, errors);
  rows.reserve(records.size() - 1);
  for (size_t i = 1; i < records.size(); ++i) {
    const CsvRecord& record = records[i];
    Row& row = rows.emplace_back(Row{record.line, {}});
    if (record.damaged) continue;
    if (record.cells.size() != columns.size()) {
      errors.add(record.line, fmt::format("expected {} cells as in the headings, found {}; a cell with commas needs "
                                          "quotes",
                                          columns.size(), record.cells.size()));
      continue;
    }
    for (size_t c = 0; c < columns.size(); ++c) {
      if (columns[c] != nullptr) builder.add(row, *columns[c], {Type::kString, record.cells[c], {}}, false);
    }
  }
  return rows;
}

void add_members(Row& row, const JsonRow& source, RowBuilder& builder, RowErrors& errors) {
  std::set<std::string> seen;
  for (const auto& [name, value] : source.members) {
    const Column* column = builder.find_column(name, source.line);
    if (column == nullptr) continue;
    if (!seen.insert(column->name).second) {
      errors.add(source.line, fmt::format("column \"{}\": there is another of the same meaning", name));
    }
    builder.add(row, *column, value, true);
  }
}

std::vector<Row> json_rows(const std::vector<JsonRow>& sources, RowBuilder& builder, RowErrors& errors) {
  std::vector<Row> rows;
  rows.reserve(sources.size());
  for (const JsonRow& source : sources) {
    Row& row = rows.emplace_back(Row{source.line, {}});
    if (source.value.type == Type::kObject) {
      add_members(row, source, builder, errors);
    } else if (source.value.type == Type::kString) {
      builder.add(row, {"prompt", ColumnKind::kPrompt}, source.value, true);
    } else {
      errors.add(source.line, "expected an object or a prompt in quotes, found " +
                                  (source.value.type == Type::kList ? "a list" : source.value.text));
    }
  }
  return rows;
}

}  // namespace

PromptsFormat parse_prompts_format(const std::string& name) {
  if (name == "txt") return PromptsFormat::kText;
  if (name == "csv") return PromptsFormat::kCsv;
  if (name == "json") return PromptsFormat::kJson;
  if (name == "jsonl") return PromptsFormat::kJsonLines;
  throw UsageError("--prompts-format: expected txt, csv, json or jsonl, found \"" + name + "\"");
}

std::vector<Row> parse_prompts(std::string_view text, PromptsFormat format, const fs::path& folder,
                               const PromptsFileOptions& options, RowErrors& errors) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    errors.add(1, "is UTF-16, expected UTF-8");
    return {};
  }
  const bool is_json = format == PromptsFormat::kJson || format == PromptsFormat::kJsonLines;
  if (!is_json) check_encoding(text, errors);  // JSON's parser does so itself
  RowBuilder builder(folder, options, errors);
  std::vector<Row> rows;
  switch (format) {
    case PromptsFormat::kText:
      rows = text_rows(text);
      break;
    case PromptsFormat::kCsv:
      rows = csv_rows(text, builder, errors);
      break;
    case PromptsFormat::kJson:
      rows = json_rows(parse_json_rows(text, errors), builder, errors);
      break;
    case PromptsFormat::kJsonLines:
      rows = json_rows(parse_json_lines(text, errors), builder, errors);
      break;
  }
  if (rows.empty() && errors.empty()) errors.add(0, "holds no prompts");
  return rows;
}

std::vector<Row> read_prompts_file(const fs::path& file, const PromptsFileOptions& options, RowErrors& errors) {
  const PromptsFormat format = options.format ? *options.format : format_of(file);
  const fs::path folder = file == "-" ? fs::path() : file.parent_path();
  return parse_prompts(read_all(file), format, folder, options, errors);
}

}  // namespace opensora::batch
