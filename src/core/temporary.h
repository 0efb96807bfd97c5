// Temporary files beside outputs: how they are called, who works on them, and what becomes of those of the dead.
#pragma once

#include <filesystem>

#include "core/file_lock.h"

namespace opensora {

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
