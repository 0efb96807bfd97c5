#include "batch/row_builder.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "batch/prompts_text.h"
#include "core/file_kind.h"
#include "core/local_file.h"
#include "core/text.h"

namespace opensora::batch {
namespace {

using request::Kind;
using Type = JsonValue::Type;

// "Num_Frames" -> "num-frames"
std::string canonical(const std::string& heading) {
  std::string name = to_lower(trim(heading));
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

// By what it holds, or by its name where that tells nothing. Animated GIFs are images (their first frame counts).
bool is_video(const std::string& path) {
  if (const std::optional<FileKind> kind = file_kind(path)) return kind->group == FileGroup::kVideo;
  return has_video_name(path);
}

// "a.png; b.png" -> "a.png", "b.png"
std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(';', begin), text.size());
    const std::string_view part = trim(std::string_view(text).substr(begin, end - begin));
    if (!part.empty()) parts.emplace_back(part);
    begin = end + 1;
  }
  return parts;
}

// Where to give what a column of that name would mean.
std::string use_of(const std::string& run_flag) {
  if (run_flag == "output") return "a row's file is called by the column \"name\", in `output_dir`";
  const request::Parameter* parameter = request::find_parameter(run_flag);
  return fmt::format("is set once for a whole run; give {} on the command line",
                     parameter != nullptr ? parameter->field() : "--" + run_flag);
}

std::string describe(const JsonValue& value) {
  if (value.type == Type::kList) return "a list";
  if (value.type == Type::kObject) return "an object";
  if (value.type != Type::kString) return value.text;
  constexpr size_t kLongest = 60;
  const std::string_view shown = cut_utf8(value.text, kLongest);
  return fmt::format("\"{}{}\"", visible(shown), shown.size() < value.text.size() ? "…" : "");
}

}  // namespace

RowBuilder::RowBuilder(std::filesystem::path folder, const PromptsFileOptions& options, RowErrors& errors)
    : folder_(std::move(folder)), run_flags_(options.other_flags.begin(), options.other_flags.end()), errors_(errors) {
  for (const request::Parameter& parameter : request::parameters()) {
    const std::string name = parameter.name();
    if (parameter.is_column()) {
      columns_[name] = {name, parameter.kind};
    } else {
      run_flags_.insert(name);
    }
  }
  columns_["text"] = columns_["prompt"];
  columns_["neg"] = columns_["negative-prompt"];
  columns_["ref"] = {"ref", Kind::kPaths};
  columns_["name"] = {"name", Kind::kText};
  names_.reserve(columns_.size());
  for (const auto& [name, column] : columns_) names_.push_back(name);
}

bool RowBuilder::knows(const std::string& heading) const {
  const std::string name = canonical(heading);
  return columns_.contains(name) || run_flags_.contains(name);
}

bool RowBuilder::is_prompt(const std::string& heading) const {
  const auto found = columns_.find(canonical(heading));
  return found != columns_.end() && found->second.name == "prompt";
}

const Column* RowBuilder::find_column(const std::string& heading, int64_t line) {
  const std::string name = canonical(heading);
  if (const auto found = columns_.find(name); found != columns_.end()) {
    if (visible(heading) != heading) {
      spdlog::warn("{}:{}: column {}: what cannot be seen beside the name is left out", errors_.file(), line,
                   describe({Type::kString, heading, {}}));
    }
    return &found->second;
  }
  if (name.empty()) {
    errors_.add(line, "a column without a heading");
  } else if (run_flags_.contains(name)) {
    errors_.add(line, fmt::format("column \"{}\": {}", heading, use_of(name)));
  } else {
    errors_.add(line, "unknown column " + describe({Type::kString, heading, {}}) + hint(name));
  }
  return nullptr;
}

// What an unknown heading may have been meant to be.
std::string RowBuilder::hint(const std::string& name) const {
  constexpr size_t kLongestName = 100;  // a whole prompt in the place of a heading resembles none
  constexpr std::string_view kTypographicQuotes = "“”„‟«»";
  if (name.size() > kLongestName) return "";
  for (size_t at = 0; at < kTypographicQuotes.size();) {
    const std::string_view quote = first_character(kTypographicQuotes.substr(at));
    if (name.find(quote) != std::string::npos) return "; a cell is quoted with \", not with typographic quotes (“ ”)";
    at += quote.size();
  }
  const std::string suggestion = did_you_mean(without_invisible(name), names_);
  const bool is_one_word = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
  return !suggestion.empty() || is_one_word ? suggestion
                                            : "; are the cells separated by commas, semicolons, tabs or |?";
}

void RowBuilder::add(Row& row, const Column& column, const JsonValue& cell, bool is_json) {
  if (cell.type == Type::kNull) return;
  if (cell.text.find('\0') != std::string::npos) {
    errors_.add(row.line, fmt::format("column \"{}\": holds a NUL character", column.name));
  } else if (column.is_list()) {
    add_list(row, column, cell);
  } else if (column.kind == Kind::kSwitch) {
    if (cell.type == Type::kList || cell.type == Type::kObject) return refuse(row, column, "true or false", cell);
    add_switch(row, column, cell.text);
  } else if (cell.type != Type::kString && cell.type != Type::kNumber) {
    refuse(row, column, "a text or a number", cell);
  } else if (column.kind == Kind::kPrompt) {
    if (!cell.text.empty() || column.name == "prompt" || is_json) row.values.emplace_back(column.name, cell.text);
  } else if (const std::string_view text = trim(cell.text); !text.empty()) {
    add_text(row, column, std::string(text));
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
  const std::string value = column.is_path() ? local_file(text, folder_).string() : text;
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
