// What tests of written files share: a folder, pictures to write, and a disk that is full.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/temporary_folder.h"

namespace opensora::test {

using Pixels = std::vector<uint8_t>;  // height x width x 3
using Files = std::vector<std::string>;

struct Color {
  int r, g, b;
};

inline Pixels solid(int width, int height, Color color) {
  Pixels pixels;
  for (int i = 0; i < width * height; ++i) {
    for (const int value : {color.r, color.g, color.b}) pixels.push_back(static_cast<uint8_t>(value));
  }
  return pixels;
}

inline Pixels noise(int width, int height, uint32_t seed = 1) {
  Pixels pixels(static_cast<size_t>(width) * height * 3);
  for (uint8_t& value : pixels) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<uint8_t>(seed >> 24);
  }
  return pixels;
}

// While it lives, no file of this process grows beyond `bytes`. It stands for a full disk: the same calls fail.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : previous_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &previous_);
    const rlimit limit{bytes, previous_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &previous_);
    std::signal(SIGXFSZ, previous_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*previous_handler_)(int);
  rlimit previous_{};
};

class MediaTest : public testing::Test {
 protected:
  // The names in the folder, sorted.
  Files files() const {
    Files names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  const TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
};

}  // namespace opensora::test
