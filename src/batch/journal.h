// The journal of a run: one line of JSON for each thing that happened, on disk before the next thing happens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "batch/journal_line.h"

namespace opensora::batch {

class Journal {
 public:
  // Creates or opens the file and locks it until this object goes. A last line that a crash cut off is removed.
  // Throws OutputError: it cannot be opened or written, another run holds it, or a line of it is not a journal's (with
  // `replace_damaged`, it is emptied then).
  Journal(std::filesystem::path path, bool replace_damaged);
  ~Journal();  // a journal in which nothing was written is removed
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // What earlier runs wrote, in order.
  const std::vector<JournalLine>& earlier() const { return earlier_; }

  // Sets disk space aside, so that what goes wrong can be written down when the disk is full. Where the file system
  // cannot, nothing happens.
  void reserve(int64_t bytes);

  // Appends `line` and a line feed, and waits until both are on disk. Throws OutputError.
  void append(std::string_view line);

  const std::filesystem::path& path() const { return path_; }
  int descriptor() const { return file_; }

 private:
  void open_and_lock();
  void read_earlier();
  void cut(int64_t bytes);

  std::filesystem::path path_;
  int file_ = -1;
  int64_t size_ = 0;  // bytes of whole lines
  std::vector<JournalLine> earlier_;
};

}  // namespace opensora::batch
