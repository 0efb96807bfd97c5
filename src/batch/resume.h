// What the journal says that earlier runs have done.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "batch/journal_line.h"
#include "batch/task.h"

namespace opensora::batch {

class History {
 public:
  History() = default;  // nothing was done
  // `prompts_file` is that of the run that goes on; empty: none.
  History(const std::vector<JournalLine>& journal, const std::string& prompts_file);

  // The seed that was drawn for a row.
  std::optional<uint64_t> seed(const std::string& row_key) const;
  // The run that goes on has written the task's file or was about to: it may be replaced. What a run of another prompts
  // file has finished under that name is not its own.
  bool owns(const Task& task) const;
  // True if the video is finished, and its file is as it was left.
  bool is_done(const Task& task) const;
  // True if a latent of the video is there because it was being made, not because it was to stay: versions before this
  // did not mark such latents.
  bool has_left_latent(const Task& task) const;

 private:
  struct File {
    std::string path, sha256;
    uintmax_t bytes = 0;
    bool keeps_latent = false;
  };
  bool is_intact(const File& file) const;

  std::map<std::string, uint64_t> seeds_;  // by row key
  std::map<std::string, bool> outputs_;    // those that were planned; false: another run's, and finished
  std::map<std::string, File> finished_;   // by key
  std::set<std::string> sampled_;          // keys
};

// Whether the last run that a journal tells of has made all its videos. An empty journal tells of none: true.
bool all_videos_made(const std::vector<JournalLine>& journal);

}  // namespace opensora::batch
