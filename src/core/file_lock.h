// Who is at work on a file: the process that holds its lock.
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

}  // namespace opensora
