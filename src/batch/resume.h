// What the journal says that earlier runs have done.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "batch/task.h"

namespace opensora::batch {

class History {
 public:
  History() = default;  // nothing was done
  explicit History(const std::vector<nlohmann::json>& journal);

  // The seed that was drawn for a row.
  std::optional<uint64_t> seed(const std::string& row_key) const;
  // A run of this journal has written this file or was about to: it may be replaced.
  bool owns(const std::filesystem::path& output) const;
  // True if the video is finished, and its file is as it was left.
  bool is_done(const Task& task) const;
  // Notes what is left of an unfinished video: its picture, its latent.
  void find_remains(Task& task) const;

 private:
  struct File {
    std::string path, sha256;
    uintmax_t bytes = 0;
  };
  bool is_intact(const File& file) const;

  std::map<std::string, uint64_t> seeds_;  // by row key
  std::set<std::string> outputs_;
  std::map<std::string, File> finished_, pictures_;  // by key
};

}  // namespace opensora::batch
