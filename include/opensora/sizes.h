// The sizes that resolutions and aspect ratios stand for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "opensora/config.h"

namespace opensora {

struct SizeRow {
  std::string resolution, aspect_ratio;
  int64_t width = 0, height = 0;  // pixels
  int64_t tokens = 0;             // of the transformer, for config.sampling.num_frames frames; the text's come on top
};

// Every known resolution in every known aspect ratio (width:height), for the configuration's autoencoder.
std::vector<SizeRow> size_table(const Config& config);

// config.sampling.num_frames; or, where the references of config.cond_type would leave nothing to make of so many, the
// frames of a reference and 16 more: 49 for v2v_head, 81 for v2v_head_easy. Throws UsageError for an unknown cond_type.
int64_t frames_with_room(const Config& config);

}  // namespace opensora
