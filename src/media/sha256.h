// SHA-256 of files and of what is in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "media/ffmpeg.h"

namespace opensora::media {

class Sha256 {
 public:
  Sha256();
  void update(std::string_view bytes);
  // 64 hexadecimal digits. Call once, at the end.
  std::string finish();

 private:
  HashPtr context_;
};

std::string sha256_of_text(std::string_view text);

// Returns 64 hexadecimal digits. Reads the file in pieces. Throws CheckpointError if it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace opensora::media
