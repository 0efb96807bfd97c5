#include "batch/row_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "core/file_kind.h"
#include "core/local_file.h"
#include "core/nearest.h"
#include "core/utf8.h"

namespace opensora::batch {
namespace {

using Type = JsonValue::Type;

std::string to_lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string trim(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// "Num_Frames" -> "num-frames"
std::string canonical(const std::string& heading) {
  std::string name = to_lower(trim(heading));
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

// By what it holds, or by its name where that tells nothing. Animated GIFs are images (their first frame counts).
bool is_video(const std::string& path) {
  if (const std::optional<FileKind> kind = file_kind(path)) return kind->group == FileGroup::kVideo;
  constexpr std::array kVideos = {".mp4", ".m4v",  ".mov", ".mkv", ".webm", ".avi", ".mpg",
                                  ".ts",  ".mpeg", ".wmv", ".flv", ".ogv",  ".y4m"};
  const std::string extension = to_lower(std::filesystem::path(path).extension().string());
  return std::find(kVideos.begin(), kVideos.end(), extension) != kVideos.end();
}

// "a.png; b.png" -> "a.png", "b.png"
std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(';', begin), text.size());
    if (std::string part = trim(text.substr(begin, end - begin)); !part.empty()) parts.push_back(std::move(part));
    begin = end + 1;
  }
  return parts;
}

bool is_list(const Column& column) { return column.kind == ColumnKind::kList || column.kind == ColumnKind::kPathList; }

std::string describe(const JsonValue& value) {
  if (value.type == Type::kList) return "a list";
  if (value.type == Type::kObject) return "an object";
  if (value.type != Type::kString) return value.text;
  constexpr size_t kLongest = 60;
  const std::string_view shown = cut_utf8(value.text, kLongest);
  return fmt::format("\"{}{}\"", shown, shown.size() < value.text.size() ? "…" : "");
}

}  // namespace

RowBuilder::RowBuilder(std::filesystem::path folder, const PromptsFileOptions& options, RowErrors& errors)
    : folder_(std::move(folder)),
      global_flags_(options.global_flags.begin(), options.global_flags.end()),
      errors_(errors) {
  for (const Column& column : options.columns) columns_[column.name] = column;
  columns_["prompt"] = columns_["text"] = {"prompt", ColumnKind::kPrompt};
  columns_["negative-prompt"] = columns_["neg"] = {"negative-prompt", ColumnKind::kPrompt};
  columns_["ref"] = {"ref", ColumnKind::kPathList};
  columns_["name"] = {"name", ColumnKind::kText};
  names_.reserve(columns_.size());
  for (const auto& [name, column] : columns_) names_.push_back(name);
}

const Column* RowBuilder::find_column(const std::string& heading, int64_t line) {
  const std::string name = canonical(heading);
  if (const auto found = columns_.find(name); found != columns_.end()) return &found->second;
  if (name.empty()) {
    errors_.add(line, "a column without a heading");
  } else if (global_flags_.contains(name)) {
    errors_.add(
        line, fmt::format("column \"{}\": is set once for a whole run; give --{} on the command line", heading, name));
  } else {
    constexpr size_t kLongestName = 100;  // a whole prompt in the place of a heading resembles none
    errors_.add(line, fmt::format("unknown column {}{}", describe({Type::kString, heading, {}}),
                                  name.size() > kLongestName ? "" : did_you_mean(name, names_)));
  }
  return nullptr;
}

void RowBuilder::add(Row& row, const Column& column, const JsonValue& cell, bool is_json) {
  if (cell.type == Type::kNull) return;
  if (cell.text.find('\0') != std::string::npos) {
    errors_.add(row.line, fmt::format("column \"{}\": holds a NUL character", column.name));
  } else if (is_list(column)) {
    add_list(row, column, cell);
  } else if (column.kind == ColumnKind::kSwitch) {
    if (cell.type == Type::kList || cell.type == Type::kObject) return refuse(row, column, "true or false", cell);
    add_switch(row, column, cell.text);
  } else if (cell.type != Type::kString && cell.type != Type::kNumber) {
    refuse(row, column, "a text or a number", cell);
  } else if (column.kind == ColumnKind::kPrompt) {
    if (!cell.text.empty() || column.name == "prompt" || is_json) row.values.emplace_back(column.name, cell.text);
  } else if (const std::string text = trim(cell.text); !text.empty()) {
    add_text(row, column, text);
  }
}

void RowBuilder::add_list(Row& row, const Column& column, const JsonValue& cell) {
  if (cell.type == Type::kBoolean || cell.type == Type::kObject) {
    return refuse(row, column, "a text or a list", cell);
  }
  if (cell.type != Type::kList) {
    for (const std::string& part : split_list(cell.text)) add_text(row, column, part);
    return;
  }
  for (const JsonValue& item : cell.items) {
    if ((item.type != Type::kString && item.type != Type::kNumber) || item.text.empty()) {
      refuse(row, column, "texts or numbers in the list", item);
    } else if (item.text.find('\0') != std::string::npos) {
      errors_.add(row.line, fmt::format("column \"{}\": holds a NUL character", column.name));
    } else {
      add_text(row, column, item.text);
    }
  }
}

void RowBuilder::add_text(Row& row, const Column& column, const std::string& text) {
  const bool is_path = column.kind == ColumnKind::kPath || column.kind == ColumnKind::kPathList;
  const std::string value = is_path ? local_file(text, folder_).string() : text;
  if (column.name != "ref") {
    row.values.emplace_back(column.name, value);
  } else {
    row.values.emplace_back(is_video(value) ? "video" : "image", value);
  }
}

void RowBuilder::add_switch(Row& row, const Column& column, const std::string& text) {
  const std::string word = to_lower(trim(text));
  if (word.empty()) return;
  const bool on = word == "true" || word == "yes" || word == "1";
  const bool off = word == "false" || word == "no" || word == "0";
  if (!on && !off) return refuse(row, column, "true or false", {Type::kString, text, {}});
  row.values.emplace_back(column.name, on ? "true" : "false");
}

void RowBuilder::refuse(const Row& row, const Column& column, const std::string& expected, const JsonValue& found) {
  errors_.add(row.line, fmt::format("column \"{}\": expected {}, found {}", column.name, expected, describe(found)));
}

}  // namespace opensora::batch
