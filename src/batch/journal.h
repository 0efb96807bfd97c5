// The journal of a run, one line of JSON for each event, which is on disk before anything else happens; and the folder
// of a run, in which it lies.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "batch/journal_line.h"
#include "opensora/batch.h"

namespace opensora::batch {

class Journal {
 public:
  // Creates or opens the file, and locks it as long as this object lives. A last line that a crash has cut off is
  // removed. Throws OutputError if the file cannot be opened or written, if another run holds it, or if a line is not
  // that of a journal; with `replace_damaged` such a file is emptied instead.
  Journal(std::filesystem::path path, bool replace_damaged);
  ~Journal();  // removes an empty journal
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // What earlier runs wrote, in order.
  const std::vector<JournalLine>& earlier() const { return earlier_; }

  // Reserves disk space, so that failures can be recorded even when the disk is full. Does nothing on file systems that
  // do not support it.
  void reserve(int64_t bytes);

  // Appends `line` and a line feed, and waits until both are on disk. Throws OutputError.
  void append(std::string_view line);

  const std::filesystem::path& path() const { return path_; }

 private:
  void open_and_lock();
  void read_earlier();
  void cut(int64_t bytes);

  std::filesystem::path path_;
  int file_ = -1;
  int64_t size_ = 0;  // bytes of whole lines
  std::vector<JournalLine> earlier_;
};

class RunFolder {
 public:
  // Makes the folder of `options` if it is missing, and opens its journal; each shard has its own. Without an
  // output_dir there is neither. Throws OutputError as Journal does, for a folder that cannot be made, and for a
  // journal whose last run did not make all its videos, unless --resume or --overwrite is given.
  explicit RunFolder(const BatchOptions& options);
  ~RunFolder();  // removes a folder that it made if nothing was written there
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  Journal* journal() const { return journal_.get(); }  // nullptr without an output_dir

 private:
  std::filesystem::path path_;
  bool made_ = false;
  std::unique_ptr<Journal> journal_;
};

}  // namespace opensora::batch
