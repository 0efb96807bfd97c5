// A picture in memory.
#pragma once

#include <cstdint>
#include <vector>

namespace opensora::media {

struct Picture {
  int width = 0;  // pixels
  int height = 0;
  std::vector<uint8_t> rgb;  // height x width x 3, packed
};

}  // namespace opensora::media
