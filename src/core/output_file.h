// Files that appear under their names only when they are complete.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/temporary.h"

namespace opensora {

// A complete file that waits for its name.
struct StagedFile {
  std::filesystem::path temporary, path;
  bool overwrite = false;
};

// Puts the data on disk (fsync), then gives each file its name, in order, without anything else between: where another
// file has taken a name meanwhile and is not to be replaced, or where a name cannot be given, those that were given
// are taken back. With `overwrite` an old file is replaced; a symbolic link is replaced, not followed.
// Throws OutputError.
void commit_together(std::span<const StagedFile> files);

// Puts `content` into the temporary file, which is empty. Throws OutputError that names `path`.
void write_content(const StagedFile& file, std::string_view content);

// Owns a temporary file in the folder of `path`, which the caller fills; commit() gives it its name in one atomic step.
// Without commit() nothing of it stays: a failed run leaves neither a half-written output nor litter. What a killed
// process leaves is removed by the next that writes into that folder: this object holds the file's lock, so that the
// living can be told from the dead.
class OutputFile {
 public:
  // Creates the (empty) temporary file, and thereby proves that the folder can be written. Throws OutputError, which
  // says what to do: the folder is missing, is no folder or cannot be written; `path` is a folder or something else
  // that is no regular file, or its name is too long; `path` exists and not `overwrite`.
  OutputFile(std::filesystem::path path, bool overwrite);
  ~OutputFile();  // removes the temporary file, unless it has its name

  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // The name it will have.
  const std::filesystem::path& path() const { return path_; }
  // ".opensora-<letters>.part" beside it: to be opened, written and closed by the caller before commit().
  const std::filesystem::path& temporary_path() const { return temporary_; }
  // For commit_together(), while this object lives.
  StagedFile staged() const { return {temporary_, path_, overwrite_}; }

  // commit_together() of this file alone. Call once.
  void commit();
  // The lock of the file, which it keeps under its name: for a file that this process still needs.
  FileLock take_lock() { return std::move(lock_); }

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileLock lock_;
  bool overwrite_;
};

// Many files of one folder that appear together: until then they lie in a folder ".opensora-<letters>.part" within.
class OutputFolder {
 public:
  // The folder must be there. Throws OutputError.
  OutputFolder(std::filesystem::path folder, bool overwrite);
  ~OutputFolder();  // removes what was not committed

  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  // The next file, to be written by the caller to StagedFile::temporary.
  const StagedFile& add(const std::string& name);
  const std::vector<StagedFile>& staged() const { return staged_; }

 private:
  std::filesystem::path folder_, temporary_;
  FileLock lock_;
  bool overwrite_;
  std::vector<StagedFile> staged_;
};

// The checks of OutputFile's constructor, for before the long work. Leaves nothing behind; removes what processes that
// are dead have left in the folder (once a process).
void check_output(const std::filesystem::path& path, bool overwrite);

// `output` with another extension, such as ".latent.safetensors" or ".json", beside it. A name that would become
// longer than the file system takes is shortened; a hash of the whole stands for what is left out.
std::filesystem::path beside(const std::filesystem::path& output, const std::string& extension);

}  // namespace opensora
