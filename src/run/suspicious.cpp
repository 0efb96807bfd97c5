#include "run/suspicious.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "opensora/error.h"

namespace opensora::run {
namespace {

constexpr int kBlack = 8;          // levels of 255
constexpr int kFlat = 4;           // levels
constexpr int64_t kBlockSide = 8;  // pixels
constexpr int64_t kColours = 3;    // R, G, B

}  // namespace

void SuspicionDetector::add(const uint8_t* rgb24, int64_t width, int64_t height) {
  std::array<uint8_t, kColours> least, most;
  least.fill(255);
  most.fill(0);
  for (int64_t i = 0; i < width * height; ++i) {
    for (int64_t c = 0; c < kColours; ++c) {
      const uint8_t value = rgb24[i * kColours + c];
      least[c] = std::min(least[c], value);
      most[c] = std::max(most[c], value);
    }
  }
  for (int64_t c = 0; c < kColours; ++c) {
    is_black_ = is_black_ && most[c] <= kBlack;
    is_flat_ = is_flat_ && most[c] - least[c] <= kFlat;
  }
  if (frames_++ == 0) {
    first_.assign(rgb24, rgb24 + width * height * kColours);
  } else {
    is_frozen_ = is_frozen_ && !moves(rgb24, width, height);
  }
}

bool SuspicionDetector::moves(const uint8_t* rgb24, int64_t width, int64_t height) const {
  for (int64_t top = 0; top < height; top += kBlockSide) {
    for (int64_t left = 0; left < width; left += kBlockSide) {
      const int64_t rows = std::min(kBlockSide, height - top), values = std::min(kBlockSide, width - left) * kColours;
      int64_t difference = 0;
      for (int64_t y = top; y < top + rows; ++y) {
        const int64_t start = (y * width + left) * kColours;
        for (int64_t i = start; i < start + values; ++i) difference += std::abs(rgb24[i] - first_[i]);
      }
      if (difference >= rows * values) return true;  // 1 level on average
    }
  }
  return false;
}

std::string SuspicionDetector::finding() const {
  if (frames_ == 0) return {};
  if (is_black_) return "all black";
  if (is_flat_) return "all of one colour";
  if (is_frozen_ && frames_ > 1) return "frozen";
  return {};
}

std::string suspicion_text(const std::string& finding, const std::filesystem::path& file) {
  return fmt::format("{}: the output is {}; look at it, and try another seed or prompt, more steps or another `dtype`",
                     file.string(), finding);
}

}  // namespace opensora::run
