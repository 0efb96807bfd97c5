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

enum class Kind {
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
  Kind kind;
  bool required = true;
};
using Fields = std::vector<Field>;

const Fields kLine = {{"time", Kind::kTime}};
const Fields kVideo = {{"row", Kind::kPositive}, {"sample", Kind::kCount}, {"key", Kind::kHash},
                       {"seed", Kind::kSeed},    {"output", Kind::kName},  {"place", Kind::kName, false}};

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
       {{"version", Kind::kName},
        {"videos", Kind::kPositive},
        {"resume", Kind::kSwitch},
        {"shard", Kind::kName},
        {"device", Kind::kName},
        {"prompts_file", Kind::kText, false}}},
      {"video_planned", of_video({{"prompt", Kind::kText}, {"row_key", Kind::kHash, false}})},
      {"video_started", of_video({})},
      {"picture_done", of_video({{"picture", Kind::kName}, {"bytes", Kind::kPositive}, {"sha256", Kind::kHash}})},
      {"video_sampled", of_video({{"latent", Kind::kName}, {"forwards", Kind::kCount}})},
      {"video_done", of_video({{"bytes", Kind::kPositive},
                               {"sha256", Kind::kHash},
                               {"width", Kind::kPositive},
                               {"height", Kind::kPositive},
                               {"frames", Kind::kPositive},
                               {"prompt", Kind::kText},
                               {"seconds", Kind::kStages},
                               {"peak_memory_bytes", Kind::kCount},
                               {"peak_device_memory_bytes", Kind::kCount},
                               {"suspicious", Kind::kText, false},
                               {"image", Kind::kName, false},
                               {"latent", Kind::kName, false}})},
      {"video_failed", of_video({{"code", Kind::kCode}, {"error", Kind::kText}, {"latent", Kind::kName, false}})},
      {"run_finished",
       {{"videos", Kind::kCount},
        {"done", Kind::kCount},
        {"skipped", Kind::kCount},
        {"failed", Kind::kCount},
        {"not_run", Kind::kCount},
        {"seconds", Kind::kSeconds},
        {"exit_code", Kind::kCode},
        {"error", Kind::kText, false}}},
      {"fault", Fields{{"file", Kind::kName}, {"time", Kind::kTime, false}}}};
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

bool fits(const json& value, Kind kind) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  switch (kind) {
    case Kind::kText:
      return is_text(value);
    case Kind::kName:
      return is_text(value) && !value.get_ref<const std::string&>().empty();
    case Kind::kHash:
      return is_hash(value);
    case Kind::kTime:
      return is_time(value);
    case Kind::kSeed:
      return value.is_number_unsigned();
    case Kind::kCount:
      return is_whole(value, 0, kMost);
    case Kind::kPositive:
      return is_whole(value, 1, kMost);
    case Kind::kCode:
      return is_whole(value, 0, 255);
    case Kind::kSeconds:
      return is_seconds(value);
    case Kind::kStages:
      return is_stages(value);
    case Kind::kSwitch:
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
