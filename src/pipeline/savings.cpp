#include "pipeline/savings.h"

#include <fmt/format.h>

#include <variant>

#include "core/cpu_features.h"

namespace opensora::pipeline {
namespace {

// A smaller video than this is of no use to anybody.
constexpr int64_t kFewestFrames = 17, kSmallestEdge = 128;

Saving with(Saving saving, const std::string& flag) {
  saving.flags.push_back(flag);
  return saving;
}

bool is_tiled(const GenerateRequest& request) {
  return std::visit([](const auto& ae) { return ae.use_spatial_tiling && ae.use_temporal_tiling; }, request.config.ae);
}

Saving with_tiling(const Saving& before) {
  Saving saving = with(before, "--vae-tiling");
  std::visit([](auto& ae) { ae.use_spatial_tiling = ae.use_temporal_tiling = true; }, saving.request.config.ae);
  return saving;
}

Saving with_offload(const Saving& before, const std::string& offload) {
  Saving saving = with(before, "--offload " + offload);
  saving.request.offload = offload;
  return saving;
}

Saving with_bf16(const Saving& before) {
  Saving saving = with(before, "--dtype bf16");
  saving.request.dtype = "bf16";
  return saving;
}

Saving with_frames(const Saving& before, int64_t frames) {
  Saving saving = with(before, fmt::format("--num-frames {}", frames));
  saving.request.config.sampling.num_frames = frames;
  return saving;
}

Saving with_size(const Saving& before, PixelSize size) {
  Saving saving = with(before, fmt::format("-W {} -H {}", size.width, size.height));
  SamplingConfig& s = saving.request.config.sampling;
  s.resolution = s.aspect_ratio = std::nullopt;
  s.width = size.width;
  s.height = size.height;
  return saving;
}

// Half as many, 4k + 1: all autoencoders make that.
int64_t half_as_many(int64_t frames) { return frames / 2 / 4 * 4 + 1; }

void add_shorter(std::vector<Saving>& savings, const Saving& before) {
  const int64_t frames = before.request.config.sampling.num_frames;
  for (int64_t n = half_as_many(frames); n >= kFewestFrames && n < frames; n = half_as_many(n)) {
    savings.push_back(with_frames(before, n));
  }
}

}  // namespace

std::vector<Saving> savings_of(const GenerateRequest& request, at::Device device, at::ScalarType dtype,
                               PixelSize size) {
  Saving all{{}, request};
  std::vector<Saving> savings;
  // The least of what there is: on the CPU weights that stay in their file.
  const std::string least = device.is_cpu() ? "model" : "block";
  const bool is_least = request.offload == least || (device.is_cpu() && request.offload == "auto");
  if (!is_least) savings.push_back(all = with_offload(all, least));
  if (!is_tiled(request)) savings.push_back(all = with_tiling(all));
  if (dtype == at::kFloat && !computes_in_float32(at::kBFloat16, device)) {
    if (!all.flags.empty()) savings.push_back(with_bf16({{}, request}));
    savings.push_back(all = with_bf16(all));
  }
  if (request.image_only) return savings;
  add_shorter(savings, all);
  const int64_t multiple = request.config.ae_spatial_compression;
  const auto half = [multiple](int64_t edge) { return (edge / 2 + multiple - 1) / multiple * multiple; };
  for (size = {half(size.width), half(size.height)}; std::min(size.width, size.height) >= kSmallestEdge;
       size = {half(size.width), half(size.height)}) {
    const Saving smaller = with_size(all, size);
    savings.push_back(smaller);
    add_shorter(savings, smaller);
  }
  return savings;
}

}  // namespace opensora::pipeline
