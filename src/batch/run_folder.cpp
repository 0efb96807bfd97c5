#include "batch/run_folder.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <system_error>

#include "batch/resume.h"
#include "opensora/error.h"

namespace opensora::batch {
namespace {

namespace fs = std::filesystem;

fs::path journal_path(const fs::path& folder, const BatchOptions& options) {
  const std::string shard = options.shards > 1 ? fmt::format("-{}-of-{}", options.shard, options.shards) : "";
  return folder / ("run" + shard + ".jsonl");
}

// Returns whether it was not there. Throws OutputError.
bool make_folder(const fs::path& folder) {
  std::error_code error;
  const bool made = fs::create_directories(folder, error);
  if (!error && !fs::is_directory(folder, error)) error = std::make_error_code(std::errc::not_a_directory);
  if (error) throw OutputError("--output-dir " + folder.string() + ": " + error.message());
  return made;
}

// "prompts", "prompts-2", … whichever is free; two runs at once get two.
fs::path make_new_folder(const fs::path& name) {
  std::error_code error;
  for (int number = 1;; ++number) {
    fs::path folder = number == 1 ? name : fs::path(fmt::format("{}-{}", name.string(), number));
    if (fs::create_directory(folder, error)) return folder;
    if (error && error != std::errc::file_exists) {
      throw OutputError(
          fmt::format("{}: the folder cannot be made: {}; give --output-dir", folder.string(), error.message()));
    }
  }
}

}  // namespace

RunFolder::RunFolder(const BatchOptions& options) : path_(options.output_dir) {
  if (path_.empty()) return;
  if (options.new_output_dir) {
    path_ = make_new_folder(path_);
    made_ = true;
    spdlog::info("the videos go to the folder {}; --output-dir gives them another", path_.string());
  } else {
    made_ = make_folder(path_);
  }
  journal_ = std::make_unique<Journal>(journal_path(path_, options), options.overwrite && !options.resume);
  if (options.resume || options.overwrite || all_videos_made(journal_->earlier())) return;
  throw OutputError(journal_->path().string() +
                    ": the run in this folder has not made all its videos; --resume goes on with it, --overwrite "
                    "starts again; or give another --output-dir");
}

RunFolder::~RunFolder() {
  journal_.reset();  // an empty one goes
  if (made_) ::rmdir(path_.c_str());
}

}  // namespace opensora::batch
