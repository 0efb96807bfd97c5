// Temporary folders of the tools and of the tests.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "opensora/error.h"

namespace opensora::tools {

// A folder among the system's temporary files, under an unpredictable name. It is removed with everything in it.
class ScratchFolder {
 public:
  // `tool` is part of the name. Throws OutputError.
  explicit ScratchFolder(const std::string& tool) {
    std::string name = (std::filesystem::temp_directory_path() / ("opensora-" + tool + "-XXXXXX")).string();
    if (::mkdtemp(name.data()) == nullptr) throw OutputError(name + ": no temporary folder can be made");
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace opensora::tools
