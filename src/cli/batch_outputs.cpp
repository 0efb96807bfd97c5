#include "cli/batch_outputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "core/text.h"
#include "opensora/error.h"

namespace opensora::cli {
namespace {

namespace fs = std::filesystem;

// "prompts" of data/prompts.csv; a name that would be hidden or empty is none.
std::string folder_name(const std::vector<RowRequest>& rows, const std::string& prompts_file) {
  if (prompts_file.empty()) return prompt_slug(rows.front().request.prompt);
  const std::string name = fs::path(prompts_file).stem().string();
  return name.empty() || name.starts_with('.') ? "videos" : name;
}

// The last of NAME, NAME-2, NAME-3, … that is there; empty: not even the first.
fs::path last_folder(const std::string& name) {
  std::error_code ignored;
  fs::path last;
  for (int number = 1;; ++number) {
    const fs::path folder = number == 1 ? name : fmt::format("{}-{}", name, number);
    if (!fs::exists(folder, ignored)) return last;
    if (fs::is_directory(folder, ignored)) last = folder;
  }
}

// A run of an older version without --output-dir had its journal in the current folder.
bool has_journal_here() {
  std::error_code ignored;
  return fs::exists("run.jsonl", ignored);
}

void refuse_with_several(const char* flag, const fs::path& file, int64_t videos, const char* instead) {
  if (file.empty() || videos == 1) return;
  throw UsageError(
      fmt::format("{} {}: is for one video, and {} are to be made; {}", flag, file.string(), videos, instead));
}

}  // namespace

int64_t count_videos(const RowRequest& row, const request::Settings& settings) {
  const auto seeds = static_cast<int64_t>((row.seeds.empty() ? settings.seeds : row.seeds).size());
  return std::max(seeds, settings.batch.samples);
}

int64_t count_videos(const std::vector<RowRequest>& rows, const request::Settings& settings) {
  int64_t videos = 0;
  for (const RowRequest& row : rows) {
    videos += count_videos(row, settings);
  }
  return videos;
}

bool makes_single_video(const std::vector<RowRequest>& rows, const GenerateOptions& options) {
  const request::Settings& settings = options.settings;
  if (!settings.batch.output_dir.empty() || count_videos(rows, settings) != 1) return false;
  return settings.batch.prompts_file.empty() || !settings.request.output.empty();
}

void check_outputs(const std::vector<RowRequest>& rows, const GenerateOptions& options) {
  const GenerateRequest& request = options.settings.request;
  const BatchOptions& batch = options.settings.batch;
  const int64_t videos = count_videos(rows, options.settings);
  refuse_with_several("-o", request.output, videos,
                      "give --output-dir DIR instead, and --name-template for the names in it");
  if (!request.output.empty() && !batch.output_dir.empty()) {
    throw UsageError(
        fmt::format("-o {}: excludes --output-dir, in which videos name themselves; give -o {} alone, or "
                    "--name-template",
                    request.output.string(), (batch.output_dir / request.output.filename()).string()));
  }
  if (!request.output.empty() && !batch.name_template.empty()) {
    throw UsageError(fmt::format("-o {}: excludes --name-template; give one of them", request.output.string()));
  }
  constexpr const char* kAlone = "leave it out, or make the videos one at a time";
  refuse_with_several("--save-tensors", request.save_tensors, videos, kAlone);
  refuse_with_several("--contact-sheet", request.contact_sheet, videos, kAlone);
  refuse_with_several("--save-frames", request.save_frames, videos, kAlone);
}

void settle_folder(const std::vector<RowRequest>& rows, BatchOptions& batch) {
  if (!batch.output_dir.empty()) return;
  const std::string name = folder_name(rows, batch.prompts_file);
  if (!batch.resume) {
    batch.output_dir = name;
    batch.new_output_dir = true;
    return;
  }
  batch.output_dir = last_folder(name);
  if (batch.output_dir.empty() && has_journal_here()) batch.output_dir = ".";
  if (batch.output_dir.empty()) {
    throw UsageError("--resume needs --output-dir: the run's journal is there, and there is no folder " + name +
                     " here to go on with");
  }
}

}  // namespace opensora::cli
