#include "batch/resume.h"

#include <spdlog/spdlog.h>

#include <system_error>

#include "media/sha256.h"
#include "opensora/error.h"

namespace opensora::batch {

namespace fs = std::filesystem;

namespace {

// However it was typed: "p.csv", "./p.csv".
bool same_name(const fs::path& a, const fs::path& b) { return a.filename() == b.filename(); }

}  // namespace

History::History(const std::vector<JournalLine>& journal, const std::string& prompts_file) {
  bool is_own = true;  // the run whose lines are read; journals of older versions do not say which prompts file it had
  for (const JournalLine& line : journal) {
    if (line.event == "run_started") {
      is_own = !line.prompts_file || same_name(*line.prompts_file, prompts_file);
    } else if (line.event == "video_planned") {
      outputs_.emplace(line.output, true);
      if (!line.row_key.empty()) seeds_[line.row_key] = line.seed;
    } else if (line.event == "video_sampled") {
      sampled_.insert(line.key);
    } else if (line.event == "video_done") {
      finished_[line.key] = {line.file, line.sha256, line.bytes, line.keeps_latent};
      outputs_[line.output] = is_own;
    }
  }
}

std::optional<uint64_t> History::seed(const std::string& row_key) const {
  const auto found = seeds_.find(row_key);
  return found == seeds_.end() ? std::nullopt : std::optional(found->second);
}

bool History::owns(const Task& task) const {
  const std::string output = task.video.request.output.string();
  const auto made = finished_.find(task.key);
  if (made != finished_.end() && made->second.path == output) return true;
  const auto found = outputs_.find(output);
  return found != outputs_.end() && found->second;
}

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

bool History::has_left_latent(const Task& task) const {
  const auto found = finished_.find(task.key);
  return sampled_.contains(task.key) && (found == finished_.end() || !found->second.keeps_latent);
}

bool all_videos_made(const std::vector<JournalLine>& journal) {
  bool made = journal.empty();
  for (const JournalLine& line : journal) {
    made = line.event == "run_finished" && !line.has_error && line.done + line.skipped == line.videos;
  }
  return made;
}

}  // namespace opensora::batch
