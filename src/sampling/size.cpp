#include "sampling/size.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "core/text.h"
#include "opensora/config.h"
#include "opensora/error.h"
#include "sampling/condition.h"

namespace opensora::sampling {
namespace {

struct AspectRatio {
  const char* name;      // width:height
  const char* vertical;  // the same, turned by 90 degrees
  double width;
  double height;
};

constexpr std::array<AspectRatio, 9> kAspectRatios = {{
    {"2.39:1", "1:2.39", 2.39, 1},
    {"2:1", "1:2", 2, 1},
    {"16:9", "9:16", 16, 9},
    {"1.85:1", "1:1.85", 1.85, 1},
    {"9:16", "16:9", 9, 16},
    {"5:8", "8:5", 5, 8},
    {"3:2", "2:3", 3, 2},
    {"4:3", "3:4", 4, 3},
    {"1:1", "1:1", 1, 1},
}};

int64_t pixels_of(const std::string& resolution) {
  const std::vector<std::string>& known = known_resolutions();
  if (std::find(known.begin(), known.end(), resolution) == known.end()) {
    throw UsageError("unknown resolution \"" + resolution + "\"" + did_you_mean(resolution, known) +
                     " (known: " + join_names(known) + "; any other size is given as height and width)");
  }
  const int64_t size = std::stoll(resolution);
  if (resolution.ends_with("px")) return size * size;
  return static_cast<int64_t>(static_cast<double>(size * size) / 9 * 16);
}

// The arithmetic of the official table, step by step: the width is rounded down first, the height follows from it.
PixelSize size_of(const AspectRatio& ratio, int64_t pixels, int64_t multiple) {
  const double edge = static_cast<double>(multiple);
  const double area = static_cast<double>(pixels);
  const int64_t width =
      static_cast<int64_t>(std::floor(std::sqrt(area * (ratio.width / ratio.height)) / edge)) * multiple;
  const int64_t height = static_cast<int64_t>(std::floor(area / static_cast<double>(width) / edge)) * multiple;
  return {width, height};
}

// The table that the model was trained with: of a size and its four neighbours, the one nearest to the area.
PixelSize trained_size_of(const AspectRatio& ratio, int64_t pixels, int64_t multiple) {
  const PixelSize base = size_of(ratio, pixels, multiple);
  const auto off = [pixels](PixelSize size) { return std::abs(size.height * size.width - pixels); };
  PixelSize best = base;
  for (const PixelSize& candidate :
       {PixelSize{base.width, base.height - multiple}, PixelSize{base.width, base.height + multiple},
        PixelSize{base.width - multiple, base.height}, PixelSize{base.width + multiple, base.height}}) {
    if (off(candidate) < off(best)) best = candidate;
  }
  return best;
}

}  // namespace

PixelSize text_to_image_size(const std::string& resolution, const std::string& aspect_ratio) {
  constexpr int64_t kMultiple = 16;
  const int64_t pixels = pixels_of(resolution);
  std::vector<PixelSize> seen;  // a ratio whose size another one has already is left out of the official table
  std::optional<PixelSize> upright;
  for (const AspectRatio& ratio : kAspectRatios) {
    const PixelSize size = trained_size_of(ratio, pixels, kMultiple);
    if (std::find(seen.begin(), seen.end(), size) != seen.end()) continue;
    seen.push_back(size);
    if (aspect_ratio == ratio.vertical) return {size.height, size.width};
    if (aspect_ratio == ratio.name) upright = size;
  }
  return upright ? *upright : image_size(resolution, aspect_ratio, kMultiple);
}

std::string nearest_aspect_ratio(PixelSize size) {
  const auto off = [&size](const std::string& name) {
    const size_t colon = name.find(':');
    const double ratio = std::stod(name.substr(0, colon)) / std::stod(name.substr(colon + 1));
    return std::abs(std::log(ratio * static_cast<double>(size.height) / static_cast<double>(size.width)));
  };
  const std::vector<std::string>& names = known_aspect_ratios();
  return *std::min_element(names.begin(), names.end(),
                           [&](const std::string& a, const std::string& b) { return off(a) < off(b); });
}

const std::vector<std::string>& known_resolutions() {
  static const std::vector<std::string> names = {"128px", "144p",  "240p", "256px", "360p",
                                                 "480p",  "512px", "720p", "768px", "1080p"};
  return names;
}

const std::vector<std::string>& known_aspect_ratios() {
  static const std::vector<std::string> names = {"16:9", "9:16", "1:1", "4:3",    "3:4",    "3:2",    "2:3",   "8:5",
                                                 "5:8",  "2:1",  "1:2", "1.85:1", "1:1.85", "2.39:1", "1:2.39"};
  return names;
}

PixelSize image_size(const std::string& resolution, const std::string& aspect_ratio, int64_t ae_spatial_compression) {
  const int64_t pixels = pixels_of(resolution);
  // The turned ratios come first: in the official table they replace entries of the same name (16:9, 9:16).
  for (const AspectRatio& ratio : kAspectRatios) {
    if (aspect_ratio != ratio.vertical) continue;
    const PixelSize turned = size_of(ratio, pixels, ae_spatial_compression);
    return {turned.height, turned.width};
  }
  for (const AspectRatio& ratio : kAspectRatios) {
    if (aspect_ratio == ratio.name) return size_of(ratio, pixels, ae_spatial_compression);
  }
  throw UsageError("unknown aspect ratio \"" + aspect_ratio + "\"" + did_you_mean(aspect_ratio, known_aspect_ratios()) +
                   " (known, as width:height: " + join_names(known_aspect_ratios()) + ")");
}

PixelSize round_up(PixelSize size, int64_t multiple) {
  const auto up = [multiple](int64_t edge) { return (edge + multiple - 1) / multiple * multiple; };
  return {up(size.width), up(size.height)};
}

int64_t latent_frames(int64_t frames, int64_t temporal_reduction) { return (frames - 1) / temporal_reduction + 1; }

void check_num_frames(int64_t frames, int64_t temporal_reduction) {
  if (frames < 1) throw UsageError("num_frames: expected at least 1, found " + std::to_string(frames));
  if ((frames - 1) % temporal_reduction == 0) return;
  const int64_t below = (frames - 1) / temporal_reduction * temporal_reduction + 1;
  throw UsageError("num_frames: expected 1 more than a multiple of " + std::to_string(temporal_reduction) + ", found " +
                   std::to_string(frames) + "; the nearest are " + std::to_string(below) + " and " +
                   std::to_string(below + temporal_reduction));
}

}  // namespace opensora::sampling

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
