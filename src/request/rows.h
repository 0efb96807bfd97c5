// How rows of the parameter table are written: by functions that take the member in which the value lies, of whichever
// part of the settings has it.
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

// The part of the settings that is an Owner.
template <typename Owner, typename AnySettings>
auto& part(AnySettings& settings) {
  if constexpr (std::is_same_v<Owner, Settings>) {
    return settings;
  } else if constexpr (std::is_same_v<Owner, BatchOptions>) {
    return settings.batch;
  } else if constexpr (std::is_same_v<Owner, ModelFiles>) {
    return settings.request.files;
  } else if constexpr (std::is_same_v<Owner, Config>) {
    return settings.request.config;
  } else if constexpr (std::is_same_v<Owner, SamplingConfig>) {
    return settings.request.config.sampling;
  } else {
    static_assert(std::is_same_v<Owner, GenerateRequest>);
    return settings.request;
  }
}

template <typename T, typename Owner>
auto getter(T Owner::*at) {
  return [at](const Settings& settings) { return to_json(part<Owner>(settings).*at); };
}

template <typename T, typename Owner>
Parameter text(const char* names, const char* help, T Owner::*at) {
  return {.names = names,
          .help = help,
          .set = [at](Settings& settings, const Given& given) { part<Owner>(settings).*at = given.text; },
          .get = getter(at)};
}

template <typename T, typename Owner>
Parameter prompt(const char* names, const char* help, T Owner::*at) {
  Parameter parameter = text(names, help, at);
  parameter.kind = Kind::kPrompt;
  parameter.get = [at](const Settings& settings) { return nlohmann::ordered_json(part<Owner>(settings).*at); };
  return parameter;
}

template <typename T, typename Owner>
Parameter choice(const char* names, const char* help, std::vector<std::string> words, T Owner::*at) {
  Parameter parameter = text(names, help, at);
  parameter.kind = Kind::kChoice;
  parameter.choices = std::move(words);
  return parameter;
}

// `type`: FILE, DIR or PATH (either).
template <typename T, typename Owner>
Parameter path(const char* names, const char* type, const char* help, T Owner::*at) {
  Parameter parameter = text(names, help, at);
  parameter.kind = Kind::kPath;
  parameter.type = type;
  return parameter;
}

template <typename T, typename Owner>
Parameter on_off(const char* names, const char* help, T Owner::*at) {
  return {.names = names,
          .help = help,
          .kind = Kind::kSwitch,
          .set = [at](Settings& settings, const Given& given) { part<Owner>(settings).*at = switch_state(given); },
          .get = getter(at)};
}

template <typename T, typename Owner>
Parameter whole(const char* names, const char* help, WholeRange range, T Owner::*at) {
  return {.names = names,
          .help = fmt::format("{}; {} to {}", help, range.min, range.max),
          .kind = Kind::kNumber,
          .type = "INT",
          .set =
              [at, range](Settings& settings, const Given& given) {
                const int64_t value = whole_number(given, range);
                if constexpr (std::is_same_v<T, int>) {
                  part<Owner>(settings).*at = static_cast<int>(value);
                } else {
                  part<Owner>(settings).*at = value;
                }
              },
          .get = getter(at)};
}

template <typename T, typename Owner>
Parameter real(const char* names, const char* help, RealRange range, T Owner::*at) {
  return {.names = names,
          .help = fmt::format("{}; {:g} to {:g}", help, range.min, range.max),
          .kind = Kind::kNumber,
          .type = "FLOAT",
          .set = [at, range](Settings& settings,
                             const Given& given) { part<Owner>(settings).*at = real_number(given, range); },
          .get = getter(at)};
}

// Null where it is 0.
template <typename T, typename Owner>
Parameter bytes(const char* names, const char* help, T Owner::*at) {
  return {.names = names,
          .help = help,
          .kind = Kind::kNumber,
          .type = "BYTES",
          .set = [at](Settings& settings, const Given& given) { part<Owner>(settings).*at = byte_count(given); },
          .get =
              [at](const Settings& settings) {
                const int64_t count = part<Owner>(settings).*at;
                return count > 0 ? nlohmann::ordered_json(count) : nlohmann::ordered_json();
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

void append_cache(Rows& table);    // what is approximated
void append_content(Rows& table);  // prompts, models, references, sizes, sampling, seed
void append_run(Rows& table);      // machine, output, batch
void append_preset(Rows& table);   // what sets several of them

}  // namespace opensora::request
