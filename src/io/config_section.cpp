#include "io/config_section.h"

#include <algorithm>

#include "core/json_text.h"
#include "core/nearest.h"

namespace opensora::io {
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
