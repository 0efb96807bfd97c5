#include "request/parameter.h"

#include <algorithm>
#include <map>
#include <utility>

#include "opensora/error.h"
#include "request/rows.h"

namespace opensora::request {

std::string Parameter::name() const {
  const size_t begin = names.find("--") + 2;
  return names.substr(begin, names.find(',', begin) - begin);
}

std::string Parameter::key() const {
  std::string key = name();
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

bool Parameter::is_recorded() const {
  return get != nullptr && (scope == Scope::kContent || scope == Scope::kRunContent);
}

Parameter Parameter::from_config(std::vector<std::string> keys) && {
  config_keys = std::move(keys);
  return std::move(*this);
}

Parameter Parameter::also_by(std::vector<std::string> parameters) && {
  decided_by = std::move(parameters);
  return std::move(*this);
}

Parameter Parameter::replacing(std::vector<std::string> below, std::vector<std::string> of_effective,
                               std::string text) && {
  replaces = std::move(below);
  replaces_effective = std::move(of_effective);
  replaces_if = std::move(text);
  return std::move(*this);
}

Parameter Parameter::needing(const std::string& other) && {
  needs = {other};
  return std::move(*this);
}

Parameter Parameter::excluding(std::vector<std::string> others) && {
  excludes = std::move(others);
  return std::move(*this);
}

Parameter Parameter::decoding() && {
  decodes = true;
  return std::move(*this);
}

Parameter Parameter::showing_default() && {
  static const Settings defaults{};
  const nlohmann::ordered_json value = get(defaults);
  default_text = value.is_string() ? value.get<std::string>() : value.dump();
  return std::move(*this);
}

Parameter Parameter::reported_as(std::function<nlohmann::ordered_json(const Settings&)> getter) && {
  get = std::move(getter);
  return std::move(*this);
}

const std::vector<Parameter>& parameters() {
  static const Rows table = [] {
    Rows rows;
    append_content(rows);
    append_run(rows);
    return rows;
  }();
  return table;
}

const Parameter* find_parameter(std::string_view name) {
  static const std::map<std::string, const Parameter*, std::less<>> by_name = [] {
    std::map<std::string, const Parameter*, std::less<>> map;
    for (const Parameter& parameter : parameters()) map.emplace(parameter.name(), &parameter);
    return map;
  }();
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : found->second;
}

void set_parameter(const Parameter& parameter, Settings& settings, const std::string& text, const std::string& hint) {
  const Given given{"--" + parameter.name(), text, hint};
  if (parameter.kind == Kind::kChoice) {
    if (const std::string error = choice_error(text, parameter.choices); !error.empty()) {
      throw UsageError(given.flag + ": " + error);
    }
  }
  if (parameter.kind != Kind::kPrompt) {
    if (const std::string error = blank_error(text); !error.empty()) throw UsageError(given.flag + ": " + error);
  }
  parameter.set(settings, given);
}

std::string rows_hint(const Parameter& parameter, const std::string& text) {
  const bool is_setting = parameter.group == "Video" || parameter.group == "Sampling" || parameter.name() == "crf";
  if (!is_setting || text.find(',') == std::string::npos) return {};
  return "; for several settings give a --prompts-file with a row for each";
}

}  // namespace opensora::request
