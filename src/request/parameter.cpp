#include "request/parameter.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/text.h"
#include "core/units.h"
#include "opensora/error.h"
#include "request/rows.h"

namespace opensora::request {
namespace {

[[noreturn]] void refuse(const Given& given, const std::string& expected) {
  throw UsageError(fmt::format("{}: expected {}, found \"{}\"{}", given.name, expected, given.text, given.hint));
}

// "7,5" -> "7.5", if that is what is meant.
std::string with_a_point(const std::string& text) {
  const size_t comma = text.find(',');
  std::string changed = text;
  if (comma != std::string::npos) changed[comma] = '.';
  return comma != std::string::npos && parse_decimal(changed) ? changed : "";
}

std::optional<PixelSize> parse_size(std::string_view text) {
  const size_t cross = text.find('x');
  if (cross == std::string_view::npos) return std::nullopt;
  const auto width = parse_whole<int64_t>(text.substr(0, cross)), height = parse_whole<int64_t>(text.substr(cross + 1));
  const auto is_side = [](const std::optional<int64_t>& side) { return side && *side >= 1 && *side <= kMaxEdge; };
  return is_side(width) && is_side(height) ? std::optional(PixelSize{*width, *height}) : std::nullopt;
}

const Settings& defaults() {
  static const Settings settings;  // with braces g++ 12 warns of members that are not initialised, though they are
  return settings;
}

// "num_frames" -> "--num-frames"; empty where there is no such field.
std::string flag_of(std::string_view field, const std::vector<std::string>& others) {
  if (field == "output") return "-o";
  std::string name(field);
  std::replace(name.begin(), name.end(), '_', '-');
  const bool is_known =
      find_parameter(name) != nullptr || std::find(others.begin(), others.end(), name) != others.end();
  return is_known && field.find('-') == std::string_view::npos ? "--" + name : "";
}

// "fp32, bf16 or fp16"
std::string alternatives(const std::vector<std::string>& words) {
  const auto last = words.end() - 1;
  return words.size() == 1 ? words.front() : fmt::format("{} or {}", fmt::join(words.begin(), last, ", "), *last);
}

}  // namespace

std::string Parameter::name() const {
  const size_t begin = names.find("--") + 2;
  return names.substr(begin, names.find(',', begin) - begin);
}

std::string Parameter::key() const {
  std::string key = name();
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

std::string Parameter::field() const { return fmt::format("`{}`", key()); }

bool Parameter::is_recorded(const Settings& settings) const {
  if (get == nullptr || (scope != Scope::kContent && scope != Scope::kRunContent)) return false;
  return !omits_default || get(settings) != get(defaults());
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

Parameter Parameter::unless_default() && {
  omits_default = true;
  return std::move(*this);
}

Parameter Parameter::showing_default() && {
  const nlohmann::ordered_json value = get(defaults());
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

std::string with_flags(std::string_view message, const std::vector<std::string>& others) {
  std::string told;
  for (;;) {
    const size_t begin = message.find('`'), end = message.find('`', begin + 1);
    if (begin == std::string_view::npos || end == std::string_view::npos) return told.append(message);
    const std::string flag = flag_of(message.substr(begin + 1, end - begin - 1), others);
    // The mark that ends what is no field may begin one.
    told.append(message.substr(0, flag.empty() ? end : begin)).append(flag);
    message.remove_prefix(flag.empty() ? end : end + 1);
  }
}

std::vector<std::string> with_flags(std::vector<std::string> messages, const std::vector<std::string>& others) {
  for (std::string& message : messages) message = with_flags(message, others);
  return messages;
}

void set_parameter(const Parameter& parameter, Settings& settings, const std::string& text, const std::string& hint) {
  const Given given{parameter.field(), text, hint};
  if (parameter.kind == Kind::kChoice) {
    if (const std::string error = choice_error(text, parameter.choices); !error.empty()) {
      throw UsageError(given.name + ": " + error);
    }
  }
  if (parameter.kind != Kind::kPrompt) {
    if (const std::string error = blank_error(text); !error.empty()) throw UsageError(given.name + ": " + error);
  }
  parameter.set(settings, given);
}

std::string rows_hint(const Parameter& parameter, const std::string& text) {
  const bool is_setting = parameter.group == "Video" || parameter.group == "Sampling" || parameter.name() == "crf";
  if (!is_setting || text.find(',') == std::string::npos) return {};
  return "; for several settings give a `prompts_file` with a row for each";
}

int64_t whole_number(const Given& given, WholeRange range) {
  const std::optional<int64_t> value = parse_whole<int64_t>(given.text);
  if (!value || *value < range.min || *value > range.max) {
    refuse(given, fmt::format("a whole number from {} to {}", range.min, range.max));
  }
  return *value;
}

double real_number(const Given& given, RealRange range) {
  const std::optional<double> value = parse_decimal(given.text);
  if (value && *value >= range.min && *value <= range.max) return *value;
  const std::string expected = fmt::format("a number from {:g} to {:g}, such as 7.5", range.min, range.max);
  const std::string meant = with_a_point(given.text);
  if (meant.empty()) refuse(given, expected);
  throw UsageError(
      fmt::format("{}: expected {}, found \"{}\"; use a point, {}", given.name, expected, given.text, meant));
}

uint64_t seed(const Given& given) {
  const std::optional<uint64_t> value = parse_whole<uint64_t>(given.text);
  if (!value) refuse(given, "a whole number from 0 to 18446744073709551615");
  return *value;
}

std::vector<uint64_t> seeds(const Given& given) {
  std::vector<uint64_t> seeds;
  for (const char *at = given.text.data(), *end = at + given.text.size();;) {
    uint64_t& seed = seeds.emplace_back();
    const auto [rest, error] = std::from_chars(at, end, seed);
    if (error != std::errc() || (rest != end && *rest != ',')) {
      refuse(given, "integers from 0 to 18446744073709551615");
    }
    if (rest == end) return seeds;
    at = rest + 1;
  }
}

FrameRate frame_rate(const Given& given) {
  const std::optional<FrameRate> rate = parse_frame_rate(given.text);
  if (!rate) refuse(given, kFrameRateExpected);
  return *rate;
}

PixelSize pixel_size(const Given& given) {
  const std::optional<PixelSize> size = parse_size(given.text);
  if (!size) refuse(given, fmt::format("WIDTHxHEIGHT, such as 512x288, each from 1 to {}", kMaxEdge));
  return *size;
}

std::optional<PixelSize> pixel_size_or_none(const Given& given) {
  if (given.text == "none") return std::nullopt;
  const std::optional<PixelSize> size = parse_size(given.text);
  if (!size) refuse(given, fmt::format("WIDTHxHEIGHT, such as 512x288, each from 1 to {}, or none", kMaxEdge));
  return size;
}

int64_t byte_count(const Given& given) { return parse_bytes(given.name, given.text); }

bool switch_state(const Given& given) {
  std::string word = given.text;
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::array<std::string_view, 5> kOn = {"true", "on", "yes", "enable", "1"};
  constexpr std::array<std::string_view, 5> kOff = {"false", "off", "no", "disable", "0"};
  if (std::find(kOn.begin(), kOn.end(), word) != kOn.end()) return true;
  if (std::find(kOff.begin(), kOff.end(), word) != kOff.end()) return false;
  throw UsageError(given.name + ": is a switch and takes no value but true or false");
}

std::string device_name(const Given& given) {
  const std::string& text = given.text;
  const bool is_numbered = text.starts_with("cuda:") && text.size() > 5 && text.size() <= 8 &&
                           text.find_first_not_of("0123456789", 5) == std::string::npos;
  if (text != "auto" && text != "cpu" && text != "cuda" && !is_numbered) refuse(given, "auto, cpu, cuda or cuda:N");
  return text;
}

std::string rng_name(const Given& given) {
  if (!rng_blocks(given.text)) refuse(given, fmt::format("cpu, cuda, or cuda:BLOCKS with 1 to {}", kMaxRngBlocks));
  return given.text;
}

std::string motion_score(const Given& given) {
  if (given.text == "none" || parse_decimal(given.text)) return given.text;
  throw UsageError(given.name + ": expected a number such as 4, or none, found \"" + given.text + "\"");
}

std::string choice_error(const std::string& text, const std::vector<std::string>& words) {
  if (std::find(words.begin(), words.end(), text) != words.end()) return {};
  return fmt::format("expected {}, found \"{}\"{}", alternatives(words), text, did_you_mean(text, words));
}

std::string blank_error(const std::string& text) {
  if (text.find_first_not_of(" \t\r\n\v\f") != std::string::npos) return {};
  return fmt::format("expected a value, found \"{}\"; leave the flag out if there is none", text);
}

}  // namespace opensora::request
