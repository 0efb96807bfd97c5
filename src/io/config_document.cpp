#include "io/config_document.h"

#include <algorithm>
#include <vector>

#include "core/json_text.h"
#include "core/text.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kBaseKey = "_base_";
constexpr int kMostFiles = 100;                 // two bases with two bases each, and so on, would never end
constexpr const char* kDeleteKey = "_delete_";  // if true, the section replaces the base's, as in the official files

json read_object(const fs::path& file) {
  json value;
  try {
    value = read_json_file(file);
  } catch (const JsonError& error) {
    throw UsageError(file.string() + ": " + error.what());
  }
  if (!value.is_object()) throw UsageError(file.string() + ": expected a JSON object, found " + value.type_name());
  return value;
}

std::vector<fs::path> take_bases(json& value, const fs::path& file) {
  const auto found = value.find(kBaseKey);
  if (found == value.end()) return {};
  const json names = found->is_string() ? json::array({*found}) : *found;
  const auto is_string = [](const json& name) { return name.is_string(); };
  if (!names.is_array() || !std::all_of(names.begin(), names.end(), is_string)) {
    throw UsageError(file.string() + ": _base_: expected a file name or a list of them, found " + json_excerpt(names));
  }
  std::vector<fs::path> bases;
  for (const json& name : names) bases.push_back(file.parent_path() / name.get<std::string>());
  value.erase(kBaseKey);
  return bases;
}

void merge(json& target, const json& source, const fs::path& file, const std::string& prefix,
           ConfigDocument& document) {
  for (const auto& [key, value] : source.items()) {
    document.origins[prefix + key] = file;
    json& slot = target[key];
    if (!value.is_object()) {
      slot = value;
      continue;
    }
    json section = value;
    const auto fresh = section.find(kDeleteKey);
    const bool starts_anew = fresh != section.end() && *fresh == true;
    section.erase(kDeleteKey);
    if (!slot.is_object() || starts_anew) slot = json::object();
    merge(slot, section, file, prefix + key + ".", document);
  }
}

void load_into(ConfigDocument& document, const fs::path& file, std::vector<fs::path>& open_files) {
  json value = read_object(file);
  const fs::path identity = fs::weakly_canonical(file);
  if (std::find(open_files.begin(), open_files.end(), identity) != open_files.end()) {
    throw UsageError(file.string() + ": _base_: the file is, by way of others, its own base");
  }
  if (++document.files > kMostFiles) {
    throw UsageError(file.string() + ": _base_: more than " + std::to_string(kMostFiles) +
                     " files, one by way of another");
  }
  open_files.push_back(identity);
  for (const fs::path& base : take_bases(value, file)) load_into(document, base, open_files);
  open_files.pop_back();
  merge(document.root, value, file, "", document);
}

}  // namespace

void ConfigDocument::fail(const std::string& key_path, const std::string& problem) const {
  const auto origin = origins.find(key_path);
  const fs::path& culprit = origin == origins.end() ? file : origin->second;
  throw UsageError(culprit.string() + ": " + key_path + ": " + problem);
}

ConfigDocument load_config_document(const fs::path& file) {
  ConfigDocument document;
  document.file = file;
  std::vector<fs::path> open_files;
  load_into(document, file, open_files);
  return document;
}

namespace {

using nlohmann::json;

bool is_int_in(const json& value, IntRange range) {
  if (!value.is_number_integer()) return false;
  // An unsigned value beyond int64_t would come out negative.
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(range.max)) return false;
  const int64_t number = value.get<int64_t>();
  return number >= range.min && number <= range.max;
}

std::string to_text(IntRange range) { return std::to_string(range.min) + " to " + std::to_string(range.max); }

}  // namespace

ConfigSection::ConfigSection(const ConfigDocument& document, const std::string& name)
    : document_(document), name_(name) {
  if (name.empty()) {
    values_ = document.root;
    return;
  }
  const auto found = document.root.find(name);
  if (found == document.root.end()) return;
  if (!found->is_object()) document.fail(name, std::string("expected an object, found ") + json_excerpt(*found));
  values_ = *found;
}

const json* ConfigSection::find(const std::string& key) {
  known_.push_back(key);
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &*found;
}

void ConfigSection::read(const std::string& key, bool& value) {
  const json* found = find(key);
  if (!found) return;
  if (!found->is_boolean()) fail_type(key, "true or false");
  value = found->get<bool>();
}

void ConfigSection::read(const std::string& key, int64_t& value, IntRange range) {
  const json* found = find(key);
  if (!found) return;
  if (!is_int_in(*found, range)) fail_type(key, "an integer from " + to_text(range));
  value = found->get<int64_t>();
}

void ConfigSection::read(const std::string& key, uint64_t& value) {
  const json* found = find(key);
  if (!found) return;
  if (!found->is_number_unsigned()) fail_type(key, "an integer that is not negative");
  value = found->get<uint64_t>();
}

void ConfigSection::read(const std::string& key, double& value) {
  const json* found = find(key);
  if (!found) return;
  if (!found->is_number()) fail_type(key, "a number");  // finite: the parser refuses numbers that overflow
  value = found->get<double>();
}

void ConfigSection::read(const std::string& key, std::string& value) {
  const json* found = find(key);
  if (!found) return;
  if (!found->is_string()) fail_type(key, "a string");
  value = found->get<std::string>();
}

void ConfigSection::read(const std::string& key, std::vector<int64_t>& value) {
  const json* found = find(key);
  if (!found) return;
  const auto is_valid = [](const json& item) { return is_int_in(item, {}); };
  if (!found->is_array() || found->empty() || !std::all_of(found->begin(), found->end(), is_valid)) {
    fail_type(key, "a list of integers from " + to_text({}));
  }
  value = found->get<std::vector<int64_t>>();
}

void ConfigSection::read_choice(const std::string& key, std::string& value, const std::vector<std::string>& choices) {
  read(key, value);
  if (!values_.contains(key) || std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  fail_type(key, "one of " + join_names(choices));
}

void ConfigSection::expect(const std::string& key, const std::vector<std::string>& choices) {
  std::string value;
  read_choice(key, value, choices);
}

void ConfigSection::ignore(std::initializer_list<const char*> keys) {
  ignored_.insert(ignored_.end(), keys.begin(), keys.end());
}

void ConfigSection::ignore_prefix(std::string_view prefix) { ignored_prefixes_.emplace_back(prefix); }

void ConfigSection::require(const std::string& key, bool valid, const std::string& expected) const {
  if (!valid) fail_type(key, expected);
}

void ConfigSection::finish() const {
  for (const auto& [key, value] : values_.items()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end() || is_ignored(key)) continue;
    document_.fail(full_path(key), "unknown key" + did_you_mean(key, known_));
  }
}

std::string ConfigSection::full_path(const std::string& key) const { return name_.empty() ? key : name_ + "." + key; }

bool ConfigSection::is_ignored(const std::string& key) const {
  const auto is_prefix = [&key](const std::string& prefix) { return key.starts_with(prefix); };
  return std::find(ignored_.begin(), ignored_.end(), key) != ignored_.end() ||
         std::any_of(ignored_prefixes_.begin(), ignored_prefixes_.end(), is_prefix);
}

void ConfigSection::fail_type(const std::string& key, const std::string& expected) const {
  const auto found = values_.find(key);
  const std::string value = found == values_.end() ? "none" : json_excerpt(*found);
  document_.fail(full_path(key), "expected " + expected + ", found " + value);
}

}  // namespace opensora::io
