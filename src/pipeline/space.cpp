#include "pipeline/space.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include "core/byte_size.h"
#include "media/encoding.h"

namespace fs = std::filesystem;

namespace opensora::pipeline {
namespace {

constexpr double kPngBits = 12;  // a pixel, of 24; noise would take all of them

// Bits a pixel in the file. Measured with the demo model's clips as they are and enlarged to 512x512, and x264's own
// rule that 6 steps of crf halve the rate: at crf 18, 0.07 to 0.17 in yuv420p and twice as much in RGB, for which x265
// takes two thirds. Without loss x264 needs 0.6 to 1.8; FFV1 a quarter of what is raw in 8 bits, a half of more.
double coded_bits(const GenerateRequest& request) {
  const fs::path name =
      request.output.empty() ? fs::path("video" + media::default_extension(request.codec)) : request.output;
  const media::Encoding encoding = media::resolve_encoding(name, request.codec, request.pix_fmt);
  const double raw = media::raw_bits_per_pixel(encoding.pixel_format);
  const bool is_rgb =
      encoding.pixel_format.find("rgb") != std::string::npos || encoding.pixel_format.find("gbr") != std::string::npos;
  if (encoding.is_lossless) return raw * (raw > 24 ? 0.5 : 0.35);
  const double lossy = 0.1 * std::exp2((18.0 - request.crf) / 6) * (encoding.codec == "hevc" ? 0.7 : 1);
  const bool keeps_all = request.crf == 0;
  return (keeps_all ? 1.5 : lossy) * (is_rgb ? 2 : 1);
}

struct Need {
  std::string what;
  fs::path folder;
  int64_t bytes = 0;
};

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

std::vector<Need> needs_of(const Video& video, int64_t waiting) {
  constexpr int64_t kFloat = sizeof(float);
  const GenerateRequest& request = video.request;
  const Plan& plan = video.plan;
  const sampling::LatentShape& shape = plan.latent_shape;
  const int64_t frames = request.config.sampling.num_frames;
  const int64_t pixels = plan.size.width * plan.size.height * frames;
  const int64_t latent = shape.channels * shape.frames * shape.height * shape.width * kFloat;
  const int64_t file = expected_file_bytes(request, plan.size, frames);
  std::vector<Need> needs = {{"the latent takes " + format_bytes(latent), folder_of(plan.latent), latent},
                             {"the video about " + format_bytes(file), folder_of(plan.output), file}};
  const auto add = [&](const std::string& what, const fs::path& folder, int64_t bytes) {
    needs.push_back({what + format_bytes(bytes), folder, bytes});
  };
  if (waiting > 0) add(fmt::format("{} more to be written about ", waiting), folder_of(plan.output), waiting * file);
  if (!request.save_frames.empty()) {
    add("--save-frames about ", request.save_frames, static_cast<int64_t>(static_cast<double>(pixels) * kPngBits / 8));
  }
  if (!request.save_tensors.empty()) {
    add("--save-tensors ", folder_of(request.save_tensors), 2 * latent + 3 * pixels * kFloat);
  }
  return needs;
}

}  // namespace

int64_t expected_file_bytes(const GenerateRequest& request, PixelSize size, int64_t frames) {
  constexpr int64_t kContainerBytes = 8 * 1024;  // index and metadata
  size = request.output_size.value_or(size);
  const double bits = frames == 1 ? kPngBits : coded_bits(request);
  return kContainerBytes + static_cast<int64_t>(static_cast<double>(size.width * size.height * frames) * bits / 8);
}

std::optional<std::string> lack_of_space(const Video& video, int64_t waiting) {
  std::map<dev_t, std::vector<Need>> by_disk;
  for (Need& need : needs_of(video, waiting)) {
    struct stat status {};
    if (::stat(need.folder.c_str(), &status) == 0) by_disk[status.st_dev].push_back(std::move(need));
  }
  for (const auto& [disk, needs] : by_disk) {
    int64_t sum = 0;
    std::vector<std::string> texts;
    for (const Need& need : needs) {
      sum += need.bytes;
      texts.push_back(need.what);
    }
    std::error_code error;
    const fs::space_info space = fs::space(needs.front().folder, error);
    if (error || space.available >= static_cast<uintmax_t>(sum)) continue;
    return fmt::format("{}: the disk is full: {} are free; {}", video.plan.output.string(),
                       format_bytes(static_cast<int64_t>(space.available)), fmt::join(texts, ", "));
  }
  return std::nullopt;
}

}  // namespace opensora::pipeline
