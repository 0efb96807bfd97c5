// Detects videos that cannot be what was wanted: black, of a single colour, frozen.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace opensora::run {

// Looks at each frame as it is written, and keeps only the first one. A video is
//   "all black"          if no value of any pixel is above 8 of 255: a night scene has a star, a window, a glimmer;
//   "all of one colour"  if in each frame no channel varies by more than 4 levels;
//   "frozen"             if it has more than one frame and each is the first one again: no block of 8x8 pixels differs
//                        from the first frame's by 1 level or more on average over its values. So a small thing that
//                        moves counts as motion, and so does a slow fade; the decoder's faint flicker does not.
class SuspicionDetector {
 public:
  // `rgb24`: height x width x 3, packed; all frames are of one size.
  void add(const uint8_t* rgb24, int64_t width, int64_t height);

  // The first of the above that holds for all frames so far; empty if none does or there was no frame.
  std::string finding() const;

 private:
  bool moves(const uint8_t* rgb24, int64_t width, int64_t height) const;

  std::vector<uint8_t> first_;
  int64_t frames_ = 0;
  bool is_black_ = true, is_flat_ = true, is_frozen_ = true;
};

// A line for the user about a finished file.
std::string suspicion_text(const std::string& finding, const std::filesystem::path& file);

}  // namespace opensora::run
