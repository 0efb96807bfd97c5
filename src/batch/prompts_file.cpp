#include "batch/prompts_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <set>

#include "batch/prompts_csv.h"
#include "batch/prompts_json.h"
#include "batch/prompts_text.h"
#include "batch/row_builder.h"
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

bool is_spreadsheet(const std::string& extension) {
  constexpr std::array kExtensions = {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".fods", ".numbers"};
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

PromptsFormat format_of(const fs::path& file) {
  if (file == "-") return PromptsFormat::kText;
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".txt") return PromptsFormat::kText;
  if (extension == ".csv") return PromptsFormat::kCsv;
  if (extension == ".tsv" || extension == ".tab") return PromptsFormat::kTsv;
  if (extension == ".json") return PromptsFormat::kJson;
  if (extension == ".jsonl" || extension == ".ndjson") return PromptsFormat::kJsonLines;
  if (is_spreadsheet(extension)) {
    throw UsageError(file.string() + ": is a spreadsheet: save it as CSV in UTF-8 in the program that made it");
  }
  throw UsageError(
      fmt::format("{}: expected a file in .txt, .csv, .tsv, .json or .jsonl, found \"{}\"; or say which with "
                  "`prompts_format`",
                  file.string(), extension));
}

std::vector<Row> text_rows(std::string_view text, const RowErrors& errors) {
  std::vector<Row> rows;
  for (int64_t line = 1; !text.empty(); ++line) {
    const std::string_view prompt = trim(take_line(text));
    if (prompt.empty() || prompt.starts_with('#') || errors.has(line, line)) continue;
    rows.push_back({line, {{"prompt", std::string(prompt)}}});
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
    const size_t errors_before = errors.size();
    Row row{source.line, {}};
    if (source.value.type == Type::kObject) {
      add_members(row, source, builder, errors);
    } else if (source.value.type == Type::kString) {
      builder.add(row, {"prompt", request::Kind::kPrompt}, source.value, true);
    } else {
      errors.add(source.line, "expected an object or a prompt in quotes, found " +
                                  (source.value.type == Type::kList ? "a list" : source.value.text));
    }
    if (errors.size() == errors_before) rows.push_back(std::move(row));
  }
  return rows;
}

bool is_json(std::string_view text, const std::string& with_line_feeds) {
  RowErrors unused("");
  const bool is_list = trim(text).starts_with('[');
  if (!is_list && !trim(text).starts_with('{')) return false;
  const std::vector<JsonRow> rows =
      is_list ? parse_json_rows(with_line_feeds, unused) : parse_json_lines(with_line_feeds, unused);
  return unused.empty() && !rows.empty();
}

// A file of one format under the name of another: what it is, and what to do. Empty: it may be what its name says.
std::string other_format(std::string_view text, PromptsFormat format, const RowBuilder& builder) {
  const std::string_view content = trim(text);
  const bool is_table = format == PromptsFormat::kCsv || format == PromptsFormat::kTsv;
  if (is_table && (content.starts_with('[') || content.starts_with('{'))) {
    return "is JSON, expected CSV with headings: call it .json or .jsonl, or say so with `prompts_format`";
  }
  if (format == PromptsFormat::kJsonLines && content.starts_with('[') && is_json(text, with_line_feeds(text))) {
    return "is a list of JSON, expected an object a line: call it .json, or give `prompts_format` json";
  }
  if (format != PromptsFormat::kText) return "";
  if (has_csv_headings(text, builder)) {
    return "starts with the headings of a table, expected a prompt a line: call it .csv, or give `prompts_format` csv "
           "(or txt, if that is a prompt)";
  }
  if (!is_json(text, with_line_feeds(text))) return "";
  return "is JSON, expected a prompt a line: call it .json or .jsonl, or say so with `prompts_format`";
}

}  // namespace

PromptsFormat parse_prompts_format(const std::string& name) {
  if (name == "txt") return PromptsFormat::kText;
  if (name == "csv") return PromptsFormat::kCsv;
  if (name == "tsv") return PromptsFormat::kTsv;
  if (name == "json") return PromptsFormat::kJson;
  if (name == "jsonl") return PromptsFormat::kJsonLines;
  throw UsageError("`prompts_format`: expected txt, csv, tsv, json or jsonl, found \"" + name + "\"");
}

std::vector<Row> parse_prompts(std::string_view text, PromptsFormat format, const fs::path& folder,
                               const PromptsFileOptions& options, RowErrors& errors) {
  if (const std::string kind = foreign_kind(text); !kind.empty()) {
    errors.add(0, kind);
    return {};
  }
  text = without_marks(text);
  check_encoding(text, errors);
  RowBuilder builder(folder, options, errors);
  if (const std::string other = errors.empty() && !options.format ? other_format(text, format, builder) : "";
      !other.empty()) {
    errors.add(0, other);
    return {};
  }
  std::vector<Row> rows;
  switch (format) {
    case PromptsFormat::kText:
      rows = text_rows(text, errors);
      break;
    case PromptsFormat::kCsv:
    case PromptsFormat::kTsv:
      rows = csv_rows(text, format == PromptsFormat::kTsv ? '\t' : ',', builder, errors);
      break;
    case PromptsFormat::kJson:
      if (errors.empty()) rows = json_rows(parse_json_rows(with_line_feeds(text), errors), builder, errors);
      break;
    case PromptsFormat::kJsonLines:
      rows = json_rows(parse_json_lines(with_line_feeds(text), errors), builder, errors);
      break;
  }
  std::erase_if(rows, [](const Row& row) { return row.values.empty(); });
  if (rows.empty() && errors.empty()) errors.add(0, "holds no prompts");
  return rows;
}

std::vector<Row> read_prompts_file(const fs::path& file, const PromptsFileOptions& options, RowErrors& errors) {
  const PromptsFormat format = options.format ? *options.format : format_of(file);
  const fs::path folder = file == "-" ? fs::path() : file.parent_path();
  return parse_prompts(read_all(file), format, folder, options, errors);
}

}  // namespace opensora::batch
