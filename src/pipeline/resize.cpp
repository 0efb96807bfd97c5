#include "pipeline/resize.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "opensora/error.h"

namespace opensora::pipeline {
namespace {

constexpr int64_t kMaxPixels = int64_t{1} << 28;  // of the picture before it is cropped

struct Extent {
  int64_t height, width;
};

// The smallest size of the input's shape that covers the target. Python's round(), which the reference uses, takes
// halves to the even neighbour; so does nearbyint().
Extent covering_size(Extent input, Extent target) {
  const double scale_height = static_cast<double>(target.height) / static_cast<double>(input.height);
  const double scale_width = static_cast<double>(target.width) / static_cast<double>(input.width);
  Extent size = target;
  if (scale_height > scale_width) {
    size.width = static_cast<int64_t>(std::nearbyint(static_cast<double>(input.width) * scale_height));
  } else {
    size.height = static_cast<int64_t>(std::nearbyint(static_cast<double>(input.height) * scale_width));
  }
  if (size.height * size.width > kMaxPixels) {
    throw InputMediaError(
        fmt::format("a picture of {}x{} pixels cannot fill {}x{}: its shape is too different; crop it", input.width,
                    input.height, target.width, target.height));
  }
  return size;
}

// For each output unit along one axis: the first input unit that counts, and weights in fixed point.
struct Taps {
  std::vector<int64_t> first;
  std::vector<std::vector<int32_t>> weights;  // [taps][outputs]
};

constexpr int kWeightBits = 22;

// Keys' cubic with a = -0.5.
double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// Where the picture shrinks, the kernel is widened by as much: that is the antialiasing.
Taps cubic_taps(int64_t input, int64_t output) {
  const double scale = static_cast<double>(input) / static_cast<double>(output);
  const double stretch = std::max(scale, 1.0), support = 2 * stretch;
  const auto count = static_cast<size_t>(std::ceil(support)) * 2 + 1;
  Taps taps{std::vector<int64_t>(output), std::vector<std::vector<int32_t>>(count, std::vector<int32_t>(output))};
  for (int64_t i = 0; i < output; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(std::floor(center - support + 0.5)), 0);
    const int64_t last = std::min(static_cast<int64_t>(std::floor(center + support + 0.5)), input);
    std::vector<double> weights;
    for (int64_t x = first; x < last; ++x) {
      weights.push_back(cubic((static_cast<double>(x) - center + 0.5) / stretch));
    }
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    taps.first[i] = first;
    for (size_t k = 0; k < weights.size(); ++k) {
      taps.weights[k][i] = static_cast<int32_t>(std::round(weights[k] / sum * (1 << kWeightBits)));
    }
  }
  return taps;
}

// Resizes one dimension of uint8 [H, W, 3] in the fixed-point arithmetic of Pillow's BICUBIC, bit for bit.
at::Tensor resize_axis(const at::Tensor& rgb, int64_t dim, int64_t size) {
  const int64_t input = rgb.size(dim);
  if (input == size) return rgb;
  const Taps taps = cubic_taps(input, size);
  const at::Tensor first = at::tensor(taps.first, at::kLong);
  std::vector<int64_t> along(3, 1);
  along[dim] = size;
  at::Tensor sum;
  for (size_t k = 0; k < taps.weights.size(); ++k) {
    const at::Tensor units = rgb.index_select(dim, (first + static_cast<int64_t>(k)).clamp_max(input - 1));
    const at::Tensor weighted = units.to(at::kInt) * at::tensor(taps.weights[k], at::kInt).view(along);
    sum = sum.defined() ? sum.add_(weighted) : weighted + (1 << (kWeightBits - 1));  // one half, to round
  }
  return at::bitwise_right_shift(sum, kWeightBits).clamp_(0, 255).to(at::kByte);
}

// [N, H, W, 3] with the two middle dimensions cut to `target`.
at::Tensor crop(const at::Tensor& pictures, int64_t top, int64_t left, Extent target) {
  return pictures.narrow(1, top, target.height).narrow(2, left, target.width);
}

int64_t rounded_half(int64_t value) { return static_cast<int64_t>(std::nearbyint(static_cast<double>(value) / 2)); }

}  // namespace

at::Tensor resize_crop_image(const at::Tensor& rgb, int64_t height, int64_t width) {
  const Extent target{height, width};
  const Extent size = covering_size({rgb.size(0), rgb.size(1)}, target);
  const at::Tensor resized = resize_axis(resize_axis(rgb, 1, size.width), 0, size.height).unsqueeze(0);
  const int64_t top = rounded_half(size.height - height), left = rounded_half(size.width - width);
  return crop(resized, top, left, target).squeeze(0).contiguous();
}

at::Tensor resize_crop_video(const at::Tensor& frames, int64_t height, int64_t width) {
  const Extent target{height, width};
  const Extent size = covering_size({frames.size(1), frames.size(2)}, target);
  const at::Tensor pictures = frames.permute({0, 3, 1, 2}).to(at::kFloat);  // [T, 3, H, W]
  const at::Tensor resized =
      at::upsample_bilinear2d(pictures, {size.height, size.width}, /*align_corners=*/false).permute({0, 2, 3, 1});
  return crop(resized, (size.height - height) / 2, (size.width - width) / 2, target).contiguous();
}

at::Tensor to_model_range(const at::Tensor& rgb) {
  const at::Tensor frames = rgb.dim() == 3 ? rgb.unsqueeze(0) : rgb;
  const at::Tensor scaled = frames.to(at::kFloat).div(255).sub_(0.5).div_(0.5);
  return scaled.permute({3, 0, 1, 2}).unsqueeze(0).contiguous();  // [T, H, W, 3] -> [1, 3, T, H, W]
}

}  // namespace opensora::pipeline
