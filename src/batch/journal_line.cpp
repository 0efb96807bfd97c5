#include "batch/journal_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "batch/events.h"
#include "core/json_text.h"

namespace opensora::batch {
namespace {

using nlohmann::json;

enum class FieldKind {
  kText,      // without NUL
  kName,      // the same, not empty: of a file or a place
  kHash,      // SHA-256 in lower-case hexadecimal
  kTime,      // "2026-01-31T12:00:00.000Z"
  kSeed,      // 0 to 2^64 - 1
  kCount,     // 0 to 2^63 - 1
  kPositive,  // 1 to 2^63 - 1
  kCode,      // 0 to 255
  kSeconds,   // a number that is not negative
  kStages,    // an object of them
  kSwitch,
};

struct Field {
  const char* name;
  FieldKind kind;
  bool required = true;
};
using Fields = std::vector<Field>;

const Fields kLine = {{"time", FieldKind::kTime}};
const Fields kVideo = {{"row", FieldKind::kPositive}, {"sample", FieldKind::kCount},
                       {"key", FieldKind::kHash},     {"seed", FieldKind::kSeed},
                       {"output", FieldKind::kName},  {"place", FieldKind::kName, false}};

// The fields of an event about a video.
Fields of_video(const Fields& own) {
  Fields all = kVideo;
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

// Each event that is in journals, with its fields besides kLine.
const std::map<std::string, Fields>& events() {
  static const std::map<std::string, Fields> all = {
      {"run_started",
       {{"version", FieldKind::kName},
        {"videos", FieldKind::kPositive},
        {"resume", FieldKind::kSwitch},
        {"shard", FieldKind::kName},
        {"device", FieldKind::kName},
        {"prompts_file", FieldKind::kText, false}}},
      {"video_planned", of_video({{"prompt", FieldKind::kText}, {"row_key", FieldKind::kHash, false}})},
      {"video_started", of_video({})},
      {"picture_done",
       of_video({{"picture", FieldKind::kName}, {"bytes", FieldKind::kPositive}, {"sha256", FieldKind::kHash}})},
      {"video_sampled", of_video({{"latent", FieldKind::kName}, {"forwards", FieldKind::kCount}})},
      {"video_done", of_video({{"bytes", FieldKind::kPositive},
                               {"sha256", FieldKind::kHash},
                               {"width", FieldKind::kPositive},
                               {"height", FieldKind::kPositive},
                               {"frames", FieldKind::kPositive},
                               {"prompt", FieldKind::kText},
                               {"seconds", FieldKind::kStages},
                               {"peak_memory_bytes", FieldKind::kCount},
                               {"peak_device_memory_bytes", FieldKind::kCount},
                               {"suspicious", FieldKind::kText, false},
                               {"image", FieldKind::kName, false},
                               {"latent", FieldKind::kName, false}})},
      {"video_failed",
       of_video({{"code", FieldKind::kCode}, {"error", FieldKind::kText}, {"latent", FieldKind::kName, false}})},
      {"run_finished",
       {{"videos", FieldKind::kCount},
        {"done", FieldKind::kCount},
        {"skipped", FieldKind::kCount},
        {"failed", FieldKind::kCount},
        {"not_run", FieldKind::kCount},
        {"seconds", FieldKind::kSeconds},
        {"exit_code", FieldKind::kCode},
        {"error", FieldKind::kText, false}}},
      {"fault", Fields{{"file", FieldKind::kName}, {"time", FieldKind::kTime, false}}}};
  return all;
}

bool is_text(const json& value) {
  return value.is_string() && value.get_ref<const std::string&>().find('\0') == std::string::npos;
}

bool is_hash(const json& value) {
  constexpr size_t kDigits = 64;
  if (!value.is_string()) return false;
  const std::string& text = value.get_ref<const std::string&>();
  return text.size() == kDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool is_time(const json& value) {
  constexpr std::string_view kShape = "0000-00-00T00:00:00.000Z";
  if (!value.is_string()) return false;
  const std::string& text = value.get_ref<const std::string&>();
  return text.size() == kShape.size() && std::equal(text.begin(), text.end(), kShape.begin(), [](char c, char shape) {
           return shape == '0' ? c >= '0' && c <= '9' : c == shape;
         });
}

bool is_whole(const json& value, uint64_t least, uint64_t most) {
  return value.is_number_unsigned() && value.get<uint64_t>() >= least && value.get<uint64_t>() <= most;
}

bool is_seconds(const json& value) { return value.is_number() && value.get<double>() >= 0; }

bool is_stages(const json& value) { return value.is_object() && std::all_of(value.begin(), value.end(), is_seconds); }

bool fits(const json& value, FieldKind kind) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  switch (kind) {
    case FieldKind::kText:
      return is_text(value);
    case FieldKind::kName:
      return is_text(value) && !value.get_ref<const std::string&>().empty();
    case FieldKind::kHash:
      return is_hash(value);
    case FieldKind::kTime:
      return is_time(value);
    case FieldKind::kSeed:
      return value.is_number_unsigned();
    case FieldKind::kCount:
      return is_whole(value, 0, kMost);
    case FieldKind::kPositive:
      return is_whole(value, 1, kMost);
    case FieldKind::kCode:
      return is_whole(value, 0, 255);
    case FieldKind::kSeconds:
      return is_seconds(value);
    case FieldKind::kStages:
      return is_stages(value);
    case FieldKind::kSwitch:
      return value.is_boolean();
  }
  return false;
}

void check(const json& line, const Fields& fields) {
  for (const Field& field : fields) {
    const auto found = line.find(field.name);
    if (found == line.end()) {
      if (field.required) throw JournalLineError(fmt::format("\"{}\" is missing", field.name));
    } else if (!fits(*found, field.kind)) {
      throw JournalLineError(fmt::format("\"{}\" cannot be {}", field.name, json_excerpt(*found)));
    }
  }
}

json parse_object(std::string_view text) {
  json line;
  if (text.find('\0') != std::string_view::npos) throw JournalLineError("it holds a NUL character");
  try {
    line = parse_json(text);
  } catch (const JsonError& error) {
    throw JournalLineError(std::string("not valid JSON: ") + error.what());
  }
  if (!line.is_object()) throw JournalLineError(std::string("expected an object, found ") + line.type_name());
  return line;
}

const std::string& checked_event(const json& line) {
  const auto version = line.find("schema_version");
  if (version == line.end()) throw JournalLineError("\"schema_version\" is missing");
  if (!version->is_number_unsigned() || *version != kSchemaVersion) {
    throw JournalLineError(
        fmt::format("its schema_version is {}, this program knows {}", json_excerpt(*version), kSchemaVersion));
  }
  const auto event = line.find("event");
  if (event == line.end()) throw JournalLineError("\"event\" is missing");
  if (!event->is_string() || !events().contains(event->get_ref<const std::string&>())) {
    throw JournalLineError("\"event\" cannot be " + json_excerpt(*event));
  }
  return event->get_ref<const std::string&>();
}

}  // namespace

JournalLine parse_journal_line(std::string_view text) {
  const json line = parse_object(text);
  JournalLine parsed;
  parsed.event = checked_event(line);
  if (parsed.event != "fault") check(line, kLine);
  check(line, events().at(parsed.event));

  if (parsed.event.starts_with("video_") || parsed.event == "picture_done") {
    line["key"].get_to(parsed.key);
    line["output"].get_to(parsed.output);
    line["seed"].get_to(parsed.seed);
  }
  if (parsed.event == "video_planned") parsed.row_key = line.value("row_key", "");
  if (parsed.event == "picture_done" || parsed.event == "video_done") {
    line[parsed.event == "video_done" ? "output" : "picture"].get_to(parsed.file);
    line["bytes"].get_to(parsed.bytes);
    line["sha256"].get_to(parsed.sha256);
  }
  parsed.keeps_latent = parsed.event == "video_done" && line.contains("latent");
  if (parsed.event == "run_started" && line.contains("prompts_file")) parsed.prompts_file = line["prompts_file"];
  if (parsed.event == "run_finished") {
    line["videos"].get_to(parsed.videos);
    line["done"].get_to(parsed.done);
    line["skipped"].get_to(parsed.skipped);
    parsed.has_error = line.contains("error");
  }
  return parsed;
}

}  // namespace opensora::batch
