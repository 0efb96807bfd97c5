#include "cli/print_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/result_json.h"
#include "opensora/metadata.h"
#include "request/layers.h"

namespace opensora::cli {
namespace {

using nlohmann::ordered_json;

// Where values come from, topmost first.
struct Layer {
  std::string name;  // what the table says; empty: the flag itself
  FlagValues values;
};

class Sources {
 public:
  Sources(const RowRequest& row, const FlagValues& given, const FlagValues& from, const GenerateOptions& options)
      : keys_(config_origins(row.request.config.name)) {
    const FlagValues flags = row.line > 0 ? request::lay_over(given, row.values, false) : given;
    layers_ = {{row.place, row.values},
               {"", without(flags, row.values)},
               {options.from.string(), without(request::lay_over(from, flags, true), flags)}};
  }

  std::string of(const request::Parameter& parameter) const {
    std::vector<std::string> flags = {parameter.name()};
    flags.insert(flags.end(), parameter.decided_by.begin(), parameter.decided_by.end());
    for (const Layer& layer : layers_) {
      for (const std::string& flag : flags) {
        if (request::has(layer.values, flag)) return layer.name.empty() ? "--" + flag : layer.name;
      }
    }
    for (const std::string& config_key : parameter.config_keys) {
      if (const auto file = keys_.find(config_key); file != keys_.end()) return file->second.string();
    }
    return "built-in";
  }

 private:
  static FlagValues without(const FlagValues& values, const FlagValues& above) {
    FlagValues rest;
    std::copy_if(values.begin(), values.end(), std::back_inserter(rest),
                 [&](const auto& value) { return !request::has(above, value.first); });
    return rest;
  }

  std::map<std::string, std::filesystem::path> keys_;
  std::vector<Layer> layers_;
};

struct Line {
  std::string key;
  ordered_json value;
  std::string source;
};

// Every parameter, but those that are another way to say one that is there.
std::vector<Line> lines_of(const RowRequest& row, const GenerateOptions& options, const Sources& sources) {
  request::Settings settings = options.settings;
  settings.request = row.request;
  const ordered_json content = ordered_json::parse(effective_values(row.request));
  std::vector<Line> lines;
  for (const request::Parameter& parameter : request::parameters()) {
    if (!parameter.get) continue;
    const std::string key = parameter.key();
    lines.push_back({key, content.contains(key) ? content[key] : parameter.get(settings), sources.of(parameter)});
  }
  return lines;
}

std::string table_text(const ordered_json& value) {
  if (value.is_null() || (value.is_array() && value.empty())) return "-";
  return value.dump();
}

void print_object(const std::vector<Line>& lines) {
  ordered_json object;
  for (const auto& [key, value, source] : lines) object[key] = {{"value", value}, {"source", source}};
  print_json(object);
}

void print_table(const std::vector<Line>& lines) {
  constexpr size_t kWidest = 60;
  size_t width = 0;
  for (const Line& line : lines) width = std::max(width, table_text(line.value).size());
  width = std::min(width, kWidest);
  for (const auto& [key, value, source] : lines) {
    std::cout << fmt::format("{:<16} {:<{}}  {}\n", key, table_text(value), width, source);
  }
}

}  // namespace

void print_config(const std::vector<RowRequest>& rows, const FlagValues& given, const FlagValues& from,
                  const GenerateOptions& options) {
  for (const RowRequest& row : rows) {
    const std::vector<Line> lines = lines_of(row, options, Sources(row, given, from, options));
    if (options.json) {
      print_object(lines);
      continue;
    }
    if (!row.place.empty()) std::cout << (&row == &rows.front() ? "" : "\n") << row.place << ":\n";
    print_table(lines);
  }
}

}  // namespace opensora::cli
