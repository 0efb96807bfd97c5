#include "opensora/sizes.h"
#include "sampling/condition.h"
#include "sampling/size.h"

namespace opensora {

std::vector<SizeRow> size_table(const Config& config) {
  const int64_t pixels = config.ae_spatial_compression;
  const int64_t frames = sampling::latent_frames(config.sampling.num_frames, config.sampling.temporal_reduction);
  std::vector<SizeRow> rows;
  for (const std::string& resolution : sampling::known_resolutions()) {
    for (const std::string& ratio : sampling::known_aspect_ratios()) {
      const auto [width, height] = sampling::image_size(resolution, ratio, pixels);
      rows.push_back({resolution, ratio, width, height, frames * (height / pixels) * (width / pixels)});
    }
  }
  return rows;
}

int64_t frames_with_room(const Config& config) {
  const sampling::ConditionType type = sampling::parse_condition_type(config.cond_type);
  const int64_t frames = config.sampling.num_frames;
  return sampling::has_room(type, frames, config.sampling.temporal_reduction) ? frames : sampling::usual_frames(type);
}

}  // namespace opensora
