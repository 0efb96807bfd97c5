#include "pipeline/metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/json_text.h"
#include "core/output_file.h"
#include "io/config_document.h"
#include "media/video_info.h"
#include "opensora/error.h"
#include "opensora/version.h"
#include "pipeline/request_json.h"
#include "request/settings.h"

namespace opensora {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kSchemaVersion = 1;

std::string document_text(const fs::path& file) {
  if (file.extension() != ".json") {
    const media::VideoInfo info = media::read_video_info(file);
    if (!info.comment.empty()) return info.comment;
    const char* reason = info.frames == 1 ? "a picture holds no metadata of opensora's"
                                          : "its metadata was removed, or another program made it";
    throw UsageError(file.string() + ": does not say what it was made with: " + reason +
                     "; give the .json that --sidecar wrote beside it, or a video of opensora's");
  }
  try {
    return read_text_file(file);
  } catch (const JsonError& error) {
    throw UsageError(file.string() + ": " + error.what());
  }
}

json parse_document(const std::string& text, const std::string& place) {
  json document;
  try {
    document = parse_json(text);
  } catch (const JsonError& error) {
    throw UsageError(place + ": what it was made with is not valid JSON: " + error.what());
  }
  if (!document.is_object() || document.value("program", json()) != "opensora" || !document["request"].is_object() ||
      !document["schema_version"].is_number_integer()) {
    throw UsageError(place + ": expected the metadata of a video of opensora, found " + json_excerpt(document));
  }
  if (document["schema_version"] > kSchemaVersion) {
    throw UsageError(fmt::format("{}: its metadata has schema_version {}, this program knows up to {}", place,
                                 document["schema_version"].dump(), kSchemaVersion));
  }
  return document;
}

// 17 digits: CLI11 reads by way of a long double, and a shortest spelling may lie too near the middle of two doubles.
std::string flag_text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.17g}", value.get<double>());
  return value.dump();
}

using request::FlagValues;

void add_flag(FlagValues& flags, std::string name, const json& value) {
  std::replace(name.begin(), name.end(), '_', '-');
  if (value.is_null()) return;
  if (!value.is_array()) {
    flags.emplace_back(std::move(name), flag_text(value));
    return;
  }
  for (const json& item : value) flags.emplace_back(name, flag_text(item));
}

}  // namespace

FlagValues parse_request_flags(const std::string& text, const std::string& place) {
  const json document = parse_document(text, place);
  FlagValues flags;
  add_flag(flags, "config", document.value("config", json()));
  const json& request = document["request"];
  for (const auto& [name, value] : request.items()) add_flag(flags, name, value);
  // Its frames were written as they were made, whatever the configuration says today.
  if (request.value("output_size", json()).is_null()) flags.emplace_back("output-size", "none");
  return flags;
}

FlagValues read_request_flags(const fs::path& file) { return parse_request_flags(document_text(file), file.string()); }

std::string effective_values(const GenerateRequest& request) {
  nlohmann::ordered_json values = pipeline::request_json(request, pipeline::make_plan(request));
  if (!request.seed && !request.config.sampling.seed) values["seed"] = nullptr;
  return values.dump();
}

std::map<std::string, fs::path> config_origins(const fs::path& file) { return io::load_config_document(file).origins; }

namespace pipeline {

nlohmann::ordered_json video_metadata(const GenerateRequest& request, const Plan& plan,
                                      const CheckpointIdentities& checkpoints) {
  nlohmann::ordered_json document;
  document["schema_version"] = kSchemaVersion;
  document["program"] = "opensora";
  document["version"] = version();
  document["request"] = request_json(request, plan);
  document["effective_prompt"] = request.image_only ? request.prompt : plan.prompt;
  document["seed"] = plan.seed;
  document["config"] = config_json(request);
  document["checkpoints"] = nlohmann::ordered_json::object();
  for (const CheckpointIdentity& checkpoint : checkpoints) {
    document["checkpoints"][checkpoint.component] = {{"file", checkpoint.file}, {"identity", checkpoint.identity}};
  }
  return document;
}

fs::path sidecar_file(const fs::path& output) { return beside(output, ".json"); }

}  // namespace pipeline
}  // namespace opensora
