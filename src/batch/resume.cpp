#include "batch/resume.h"

#include <spdlog/spdlog.h>

#include <system_error>

#include "media/sha256.h"
#include "opensora/error.h"
#include "pipeline/latent_file.h"

namespace opensora::batch {

namespace fs = std::filesystem;

History::History(const std::vector<nlohmann::json>& journal) {
  for (const nlohmann::json& line : journal) {
    const std::string event = line.value("event", "");
    const std::string key = line.value("key", "");
    if (event == "video_planned") {
      outputs_.insert(line.value("output", ""));
      if (line.contains("row_key")) seeds_[line["row_key"]] = line["seed"];
    } else if (event == "picture_done") {
      pictures_[key] = {line.value("picture", ""), line.value("sha256", ""), line.value("bytes", uintmax_t{0})};
    } else if (event == "video_done") {
      finished_[key] = {line.value("output", ""), line.value("sha256", ""), line.value("bytes", uintmax_t{0})};
    }
  }
}

std::optional<uint64_t> History::seed(const std::string& row_key) const {
  const auto found = seeds_.find(row_key);
  return found == seeds_.end() ? std::nullopt : std::optional(found->second);
}

bool History::owns(const fs::path& output) const { return outputs_.contains(output.string()); }

bool History::is_intact(const File& file) const {
  std::error_code error;
  if (fs::file_size(file.path, error) != file.bytes || error) return false;
  try {
    return media::sha256_of_file(file.path) == file.sha256;
  } catch (const Error&) {
    return false;
  }
}

bool History::is_done(const Task& task) const {
  const auto found = finished_.find(task.key);
  if (found == finished_.end() || found->second.path != task.video.plan.output.string()) return false;
  if (is_intact(found->second)) return true;
  spdlog::warn("{}: is gone or has changed since it was finished; it is made again", found->second.path);
  return false;
}

void History::find_remains(Task& task) const {
  pipeline::Video& video = task.video;
  std::error_code ignored;
  if (fs::exists(video.plan.latent, ignored)) {
    try {
      const auto metadata = pipeline::read_latent(video.plan.latent).metadata;
      const auto key = metadata.find("key");
      video.has_latent = key != metadata.end() && key->second == task.key;
    } catch (const CheckpointError& error) {
      spdlog::warn("{}; it is sampled again", error.what());
    }
  }
  const auto picture = pictures_.find(task.key);
  video.has_picture =
      picture != pictures_.end() && picture->second.path == video.plan.picture.string() && is_intact(picture->second);
}

}  // namespace opensora::batch
