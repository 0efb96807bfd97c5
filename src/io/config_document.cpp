#include "io/config_document.h"

#include <algorithm>
#include <vector>

#include "core/json_text.h"
#include "opensora/error.h"

namespace opensora::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kBaseKey = "_base_";
constexpr int kMostFiles = 100;                 // two bases of two bases … would have no end
constexpr const char* kDeleteKey = "_delete_";  // true: the section replaces that of the base, as in the official files

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

}  // namespace opensora::io
