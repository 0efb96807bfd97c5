// SHA-256 of files and texts.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

struct AVSHA;

namespace opensora::media {

// Fed piece by piece.
class Sha256 {
 public:
  Sha256();
  void update(const void* data, size_t bytes);
  std::string hex();  // 64 hexadecimal digits; call once, last

 private:
  struct Free {
    void operator()(AVSHA* context) const noexcept;
  };
  std::unique_ptr<AVSHA, Free> context_;
};

std::string sha256_of_text(std::string_view text);

// Reads the file in pieces. Throws CheckpointError if it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace opensora::media
