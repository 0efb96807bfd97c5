// tests/preload/death.cpp, for a program that is about to be started.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "support/temporary_folder.h"

namespace opensora::test {

// The environment in which `death` happens at the first write of a text that holds all parts of `moment` ("|" between
// them). The library is called by a name in `folder`: LD_PRELOAD is split at spaces, which the build's folder may have.
inline std::vector<std::string> environment_of_death(const std::string& death, const std::string& moment,
                                                     const TemporaryFolder& folder) {
  namespace fs = std::filesystem;
  const fs::path name = folder.path() / ".death.so";
  const fs::path library = fs::path(OPENSORA_PROGRAM).parent_path() / "tests/libopensora-test-death.so";
  if (!fs::is_symlink(name)) fs::create_symlink(fs::canonical(library), name);
  return {"LD_PRELOAD=" + name.string(), "OPENSORA_DEATH=" + death, "OPENSORA_DEATH_AT=" + moment};
}

}  // namespace opensora::test
