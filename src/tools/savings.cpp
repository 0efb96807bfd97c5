#include "tools/savings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <variant>

#include "core/cpu_features.h"

namespace opensora::tools {
namespace {

// A smaller video than this is of no use to anybody.
constexpr int64_t kFewestFrames = 17, kSmallestEdge = 128;

bool is_tiled(const GenerateRequest& request) {
  return std::visit([](const auto& ae) { return ae.use_spatial_tiling && ae.use_temporal_tiling; }, request.config.ae);
}

Saving tiling() {
  return {"`vae_tiling`", [](GenerateRequest& request) {
            std::visit([](auto& ae) { ae.use_spatial_tiling = ae.use_temporal_tiling = true; }, request.config.ae);
          }};
}

Saving offload(const std::string& where) {
  return {"`offload` " + where, [where](GenerateRequest& request) { request.offload = where; }};
}

Saving bf16() {
  return {"`dtype` bf16", [](GenerateRequest& request) { request.dtype = "bf16"; }};
}

Saving frames(int64_t count) {
  return {fmt::format("`num_frames` {}", count),
          [count](GenerateRequest& request) { request.config.sampling.num_frames = count; }};
}

Saving video_size(PixelSize size) {
  return {fmt::format("-W {} -H {}", size.width, size.height), [size](GenerateRequest& request) {
            SamplingConfig& s = request.config.sampling;
            s.resolution = s.aspect_ratio = std::nullopt;
            s.width = size.width;
            s.height = size.height;
          }};
}

Savings plus(Savings savings, const Saving& another) {
  savings.push_back(another);
  return savings;
}

// Half as many frames, of the form 4k + 1, which all autoencoders make.
int64_t half_as_many(int64_t frames) { return frames / 2 / 4 * 4 + 1; }

void add_shorter(std::vector<Savings>& all, const Savings& before, int64_t whole) {
  for (int64_t n = half_as_many(whole); n >= kFewestFrames && n < whole; n = half_as_many(n)) {
    all.push_back(plus(before, frames(n)));
  }
}

}  // namespace

GenerateRequest with_savings(GenerateRequest request, const Savings& savings) {
  for (const Saving& saving : savings) saving.apply(request);
  return request;
}

std::vector<Savings> savings_of(const GenerateRequest& request, at::Device device, at::ScalarType dtype,
                                PixelSize size) {
  std::vector<Savings> all;
  Savings same_video;
  const auto add = [&](const Saving& saving) { all.push_back(same_video = plus(same_video, saving)); };
  // The least of what there is: on the CPU weights that stay in their file.
  const std::string least = device.is_cpu() ? "model" : "block";
  const bool is_least = request.offload == least || (device.is_cpu() && request.offload == "auto");
  if (!is_least) add(offload(least));
  if (!is_tiled(request)) add(tiling());
  if (dtype == at::kFloat && !computes_in_float32(at::kBFloat16, device)) add(bf16());
  if (request.image_only) return all;
  const int64_t whole = request.config.sampling.num_frames;
  add_shorter(all, same_video, whole);
  const int64_t multiple = request.config.ae_spatial_compression;
  const auto half = [multiple](int64_t edge) { return (edge / 2 + multiple - 1) / multiple * multiple; };
  for (size = {half(size.width), half(size.height)}; std::min(size.width, size.height) >= kSmallestEdge;
       size = {half(size.width), half(size.height)}) {
    const Savings smaller = plus(same_video, video_size(size));
    all.push_back(smaller);
    add_shorter(all, smaller, whole);
  }
  return all;
}

}  // namespace opensora::tools
