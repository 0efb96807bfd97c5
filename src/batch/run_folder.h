// The folder of a run, and its journal in it.
#pragma once

#include <filesystem>
#include <memory>

#include "batch/journal.h"
#include "opensora/batch.h"

namespace opensora::batch {

class RunFolder {
 public:
  // Makes the folder of `options` where it is missing, and opens its journal, which shards have each for themselves.
  // Without an output_dir there is neither. Throws OutputError as Journal does, for a folder that cannot be made, and
  // for a journal whose last run did not make all its videos where neither --resume nor --overwrite is given.
  explicit RunFolder(const BatchOptions& options);
  ~RunFolder();  // a folder that it made and in which nothing was written is removed
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  Journal* journal() const { return journal_.get(); }  // nullptr: there is none

 private:
  std::filesystem::path path_;
  bool made_ = false;
  std::unique_ptr<Journal> journal_;
};

}  // namespace opensora::batch
