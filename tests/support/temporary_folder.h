// A folder for a test's files, and what a file holds.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "tools/scratch_folder.h"

namespace opensora::test {

class TemporaryFolder : public tools::ScratchFolder {
 public:
  TemporaryFolder() : ScratchFolder("test") {}

  // Writes a file there, in place of one of that name; makes its folders.
  std::filesystem::path write(const std::filesystem::path& name, std::string_view content) const {
    const std::filesystem::path file = path() / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
    return file;
  }
};

inline std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace opensora::test
