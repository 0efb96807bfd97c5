// A file that appears under its name only when it is complete.
#pragma once

#include <filesystem>
#include <set>

namespace opensora {

// Owns a temporary file in the folder of `path`, which the caller fills; commit() gives it its name in one atomic step.
// Without commit() nothing of it stays: a failed run leaves neither a half-written output nor litter.
class OutputFile {
 public:
  // Creates the (empty) temporary file, and thereby proves that the folder can be written. Throws OutputError, which
  // says what to do: the folder is missing, is no folder or cannot be written; `path` is a folder or something else
  // that is no regular file; `path` exists and not `overwrite`.
  OutputFile(std::filesystem::path path, bool overwrite);
  ~OutputFile();  // removes the temporary file unless committed

  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // The name it will have.
  const std::filesystem::path& path() const { return path_; }
  // ".<name>.<pid>.part" beside it: to be opened, written and closed by the caller before commit().
  const std::filesystem::path& temporary_path() const { return temporary_; }

  // Puts the data on disk (fsync) and renames the file. Without `overwrite` a file that has taken the name meanwhile
  // is left as it is. With it, the old file is replaced; a symbolic link is replaced, not followed. Throws OutputError.
  // Call once.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  bool overwrite_;
  bool committed_ = false;
};

// The checks of OutputFile's constructor, for before the long work. Leaves nothing behind.
void check_output(const std::filesystem::path& path, bool overwrite);

// Removes temporary files that killed processes left beside `outputs`. No other process may be writing them.
void remove_leftovers(const std::set<std::filesystem::path>& outputs);

}  // namespace opensora
