// Temporary files beside outputs: how they are called, who works on them, and what becomes of those of the dead.
#pragma once

#include <filesystem>

namespace opensora {

// Owns an open file or folder and with it the lock (flock). The lock goes with this object, with the process however
// that ends, and stays with the file when it is renamed. Where the file system knows no locks, nothing is held.
class FileLock {
 public:
  FileLock() = default;  // of no file
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();

  enum class Outcome {
    kTaken,
    kHeldElsewhere,  // by another process, or by this one
    kUnknown         // there is no such file, it may not be opened, or its file system knows no locks
  };
  // Of what is there: creates nothing, waits for nobody. Opens no symbolic link and nothing but files and folders.
  Outcome take(const std::filesystem::path& path);
  // Likewise of `descriptor`, which this object owns from now on.
  Outcome take(int descriptor);

  // Whether the file has a name still: who takes a lock may find that it was of a file that is being removed.
  bool has_name() const;

 private:
  int descriptor_ = -1;
};

struct Temporary {
  std::filesystem::path path;  // ".opensora-<letters>.part": short, whatever the output is called
  FileLock lock;
};

// Creates an empty file or folder in `folder` under a name that nobody uses, and locks it. Throws std::system_error.
Temporary create_temporary_file(const std::filesystem::path& folder);
Temporary create_temporary_folder(const std::filesystem::path& folder);

// Removes it with all that is in it; nothing happens where it is gone, as after its renaming.
void remove_temporary(const std::filesystem::path& path) noexcept;
// All that this process has created and not removed: for one that ends while a thread still writes.
void remove_own_temporaries() noexcept;

// Removes the temporary files and folders that dead processes have left in `folder`: those with our names, of this
// user, whose lock can be had. Looks once a process; a folder that cannot be read is left as it is.
void remove_leftovers(const std::filesystem::path& folder);

}  // namespace opensora
