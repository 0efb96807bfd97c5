// SHA-256 of files.
#pragma once

#include <filesystem>
#include <string>

namespace opensora::media {

// 64 hexadecimal digits. Reads the file in pieces. Throws CheckpointError if it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace opensora::media
