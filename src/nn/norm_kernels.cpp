#include "nn/norm_kernels.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace opensora::nn {
namespace {

constexpr int64_t kMostSlices = 512;    // of an item: some blocks for each processor of any GPU
constexpr int64_t kMostBlocks = 65535;  // of a grid's second and third dimension
constexpr int64_t kLaneChannels = 8;

}  // namespace

bool has_pixel_lanes(const at::Tensor& x) {
  if (x.dim() != 5 || x.numel() == 0) return false;
  const int64_t channels = x.size(1);
  return channels % kLaneChannels == 0 && channels <= PixelLane::kMostChannels && x.stride(1) == 1 &&
         x.stride(4) == channels && x.size(0) <= kMostBlocks && x.size(2) <= kMostBlocks &&
         x.size(2) * x.size(3) < std::numeric_limits<int>::max() - kMostSlices &&
         are_eights(x.const_data_ptr(), {x.stride(0), x.stride(2), x.stride(3)});
}

bool has_part_moments(const at::Tensor& x, int64_t groups) {
  if (!has_pixel_lanes(x) || x.size(1) % groups != 0) return false;
  const int64_t width = x.size(1) / groups;
  return width % kLaneChannels == 0 || kLaneChannels % width == 0;
}

at::Tensor empty_parts(const at::Tensor& x, int64_t groups) {
  const int64_t channels = x.size(1), rows = x.size(2) * x.size(3);
  const int64_t parts = std::max<int64_t>(1, channels / groups / kLaneChannels);
  return at::empty({x.size(0), std::min(kMostSlices, rows), PixelLane::pixels_at_once(static_cast<int>(channels)),
                    groups, parts, sizeof(MomentsOfPart) / sizeof(float)},
                   x.options().dtype(at::kFloat));
}

void join_parts(const at::Tensor& parts, const at::Tensor& mean, const at::Tensor& variance) {
  const std::vector<int64_t> dims = {1, 2, 4};
  const std::vector<at::Tensor> wide = parts.to(at::kDouble).unbind(-1);  // count, mean, squares
  const at::Tensor count = wide[0].sum(dims, /*keepdim=*/true);
  const at::Tensor joint = (wide[0] * wide[1]).sum(dims, /*keepdim=*/true).div_(count);  // [B, 1, 1, G, 1]
  const at::Tensor squares = (wide[1] - joint).square_().mul_(wide[0]).add_(wide[2]).sum(dims, /*keepdim=*/true);
  mean.copy_(joint.view_as(mean));
  variance.copy_(squares.div_(count).view_as(variance));
}

}  // namespace opensora::nn
