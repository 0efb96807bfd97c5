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

// What the value of a field may be.

// Without NUL.
bool is_text(const json& value) {
  return value.is_string() && value.get_ref<const std::string&>().find('\0') == std::string::npos;
}

// Of a file or a place.
bool is_name(const json& value) { return is_text(value) && !value.get_ref<const std::string&>().empty(); }

// SHA-256 in lower-case hexadecimal.
bool is_hash(const json& value) {
  constexpr size_t kDigits = 64;
  if (!value.is_string()) return false;
  const std::string& text = value.get_ref<const std::string&>();
  return text.size() == kDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// "2026-01-31T12:00:00.000Z"
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

constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();

bool is_seed(const json& value) { return value.is_number_unsigned(); }
bool is_count(const json& value) { return is_whole(value, 0, kMost); }
bool is_positive(const json& value) { return is_whole(value, 1, kMost); }
bool is_code(const json& value) { return is_whole(value, 0, 255); }
bool is_seconds(const json& value) { return value.is_number() && value.get<double>() >= 0; }
bool is_stages(const json& value) { return value.is_object() && std::all_of(value.begin(), value.end(), is_seconds); }
bool is_steps(const json& value) { return value.is_array() && std::all_of(value.begin(), value.end(), is_positive); }
bool is_switch(const json& value) { return value.is_boolean(); }

struct Field {
  const char* name;
  bool (*fits)(const json& value);
  bool required = true;
};
using Fields = std::vector<Field>;

const Fields kLine = {{"time", is_time}};
const Fields kVideo = {{"row", is_positive}, {"sample", is_count}, {"key", is_hash},
                       {"seed", is_seed},    {"output", is_name},  {"place", is_name, false}};

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
       {{"version", is_name},
        {"videos", is_positive},
        {"resume", is_switch},
        {"shard", is_name},
        {"device", is_name},
        {"prompts_file", is_text, false}}},
      {"video_planned", of_video({{"prompt", is_text}, {"row_key", is_hash, false}})},
      {"video_started", of_video({})},
      {"picture_done", of_video({{"picture", is_name}, {"bytes", is_positive}, {"sha256", is_hash}})},
      {"video_sampled", of_video({{"latent", is_name}, {"forwards", is_count}, {"computed_steps", is_steps, false}})},
      {"video_done", of_video({{"bytes", is_positive},
                               {"sha256", is_hash},
                               {"width", is_positive},
                               {"height", is_positive},
                               {"frames", is_positive},
                               {"prompt", is_text},
                               {"seconds", is_stages},
                               {"peak_memory_bytes", is_count},
                               {"peak_device_memory_bytes", is_count},
                               {"suspicious", is_text, false},
                               {"image", is_name, false},
                               {"latent", is_name, false}})},
      {"video_failed", of_video({{"code", is_code}, {"error", is_text}, {"latent", is_name, false}})},
      {"run_finished",
       {{"videos", is_count},
        {"done", is_count},
        {"skipped", is_count},
        {"failed", is_count},
        {"not_run", is_count},
        {"seconds", is_seconds},
        {"exit_code", is_code},
        {"error", is_text, false}}},
      {"fault", Fields{{"file", is_name}, {"time", is_time, false}}}};
  return all;
}

void check(const json& line, const Fields& fields) {
  for (const Field& field : fields) {
    const auto found = line.find(field.name);
    if (found == line.end()) {
      if (field.required) throw JsonError(fmt::format("\"{}\" is missing", field.name));
    } else if (!field.fits(*found)) {
      throw JsonError(fmt::format("\"{}\" cannot be {}", field.name, json_excerpt(*found)));
    }
  }
}

json parse_object(std::string_view text) {
  json line;
  if (text.find('\0') != std::string_view::npos) throw JsonError("it holds a NUL character");
  try {
    line = parse_json(text);
  } catch (const JsonError& error) {
    throw JsonError(std::string("not valid JSON: ") + error.what());
  }
  if (!line.is_object()) throw JsonError(std::string("expected an object, found ") + line.type_name());
  return line;
}

const std::string& checked_event(const json& line) {
  const auto version = line.find("schema_version");
  if (version == line.end()) throw JsonError("\"schema_version\" is missing");
  if (!version->is_number_unsigned() || *version != kSchemaVersion) {
    throw JsonError(
        fmt::format("its schema_version is {}, this program knows {}", json_excerpt(*version), kSchemaVersion));
  }
  const auto event = line.find("event");
  if (event == line.end()) throw JsonError("\"event\" is missing");
  if (!event->is_string() || !events().contains(event->get_ref<const std::string&>())) {
    throw JsonError("\"event\" cannot be " + json_excerpt(*event));
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
