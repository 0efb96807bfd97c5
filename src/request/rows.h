// How rows of the parameter table are written down.
//
// `at` says where a value lies: a generic lambda from Settings, constant or not, to a reference to the member.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "request/parameter.h"

namespace opensora::request {

template <typename T>
nlohmann::ordered_json to_json(const T& value) {
  return value;
}
inline nlohmann::ordered_json to_json(const std::string& value) {
  return value.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(value);
}
inline nlohmann::ordered_json to_json(const std::filesystem::path& value) { return to_json(value.string()); }
inline nlohmann::ordered_json to_json(const PixelSize& size) { return fmt::format("{}x{}", size.width, size.height); }
template <typename T>
nlohmann::ordered_json to_json(const std::optional<T>& value) {
  return value ? to_json(*value) : nlohmann::ordered_json();
}

template <typename At>
auto getter(At at) {
  return [at](const Settings& settings) { return to_json(at(settings)); };
}

template <typename At>
Parameter text(const char* names, const char* help, At at) {
  return {.names = names,
          .help = help,
          .set = [at](Settings& settings, const Given& given) { at(settings) = given.text; },
          .get = getter(at)};
}

template <typename At>
Parameter prompt(const char* names, const char* help, At at) {
  Parameter parameter = text(names, help, at);
  parameter.kind = Kind::kPrompt;
  parameter.get = [at](const Settings& settings) { return nlohmann::ordered_json(at(settings)); };
  return parameter;
}

template <typename At>
Parameter choice(const char* names, const char* help, std::vector<std::string> words, At at) {
  Parameter parameter = text(names, help, at);
  parameter.kind = Kind::kChoice;
  parameter.choices = std::move(words);
  return parameter;
}

// `type`: FILE, DIR or PATH (either).
template <typename At>
Parameter path(const char* names, const char* type, const char* help, At at) {
  Parameter parameter = text(names, help, at);
  parameter.kind = Kind::kPath;
  parameter.type = type;
  return parameter;
}

template <typename At>
Parameter on_off(const char* names, const char* help, At at) {
  return {.names = names,
          .help = help,
          .kind = Kind::kSwitch,
          .set = [at](Settings& settings, const Given& given) { at(settings) = switch_state(given); },
          .get = getter(at)};
}

template <typename At>
Parameter whole(const char* names, const char* help, WholeRange range, At at) {
  return {.names = names,
          .help = fmt::format("{}; {} to {}", help, range.min, range.max),
          .kind = Kind::kNumber,
          .type = "INT",
          .set =
              [at, range](Settings& settings, const Given& given) {
                auto& target = at(settings);
                if constexpr (std::is_same_v<decltype(target), int&>) {
                  target = static_cast<int>(whole_number(given, range));
                } else {
                  target = whole_number(given, range);
                }
              },
          .get = getter(at)};
}

template <typename At>
Parameter real(const char* names, const char* help, RealRange range, At at) {
  return {.names = names,
          .help = fmt::format("{}; {:g} to {:g}", help, range.min, range.max),
          .kind = Kind::kNumber,
          .type = "FLOAT",
          .set = [at, range](Settings& settings, const Given& given) { at(settings) = real_number(given, range); },
          .get = getter(at)};
}

// Null where it is 0.
template <typename At>
Parameter bytes(const char* names, const char* help, At at) {
  return {.names = names,
          .help = help,
          .kind = Kind::kNumber,
          .type = "BYTES",
          .set = [at](Settings& settings, const Given& given) { at(settings) = byte_count(given); },
          .get =
              [at](const Settings& settings) {
                return at(settings) > 0 ? nlohmann::ordered_json(at(settings)) : nlohmann::ordered_json();
              }};
}

using Rows = std::vector<Parameter>;

// Appends rows that share a group and a scope.
inline void append(Rows& table, const std::string& group, Scope scope, Rows rows) {
  for (Parameter& row : rows) {
    row.group = group;
    row.scope = scope;
    table.push_back(std::move(row));
  }
}

void append_content(Rows& table);  // prompts, models, references, sizes, sampling, seed
void append_run(Rows& table);      // machine, output, batch

}  // namespace opensora::request
