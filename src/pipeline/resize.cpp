#include "pipeline/resize.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "opensora/config.h"
#include "opensora/error.h"
#include "pipeline/bicubic.h"

namespace opensora::pipeline {
namespace {

constexpr int64_t kMaxPixels = int64_t{1} << 28;  // of the picture before it is cropped

// The smallest size of the input's shape that covers the target. Python's round(), which the reference uses, takes
// halves to the even neighbour; so does nearbyint().
PixelSize covering_size(PixelSize input, PixelSize target) {
  const double scale_height = static_cast<double>(target.height) / static_cast<double>(input.height);
  const double scale_width = static_cast<double>(target.width) / static_cast<double>(input.width);
  PixelSize size = target;
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

// [N, H, W, 3] with the two middle dimensions cut to `target`.
at::Tensor crop(const at::Tensor& pictures, int64_t top, int64_t left, PixelSize target) {
  return pictures.narrow(1, top, target.height).narrow(2, left, target.width);
}

int64_t rounded_half(int64_t value) { return static_cast<int64_t>(std::nearbyint(static_cast<double>(value) / 2)); }

}  // namespace

at::Tensor resize_crop_image(const at::Tensor& rgb, int64_t height, int64_t width) {
  const PixelSize target{width, height};
  const PixelSize size = covering_size({rgb.size(1), rgb.size(0)}, target);
  const int64_t top = rounded_half(size.height - height), left = rounded_half(size.width - width);
  return resize_bicubic(rgb, size.height, size.width, {top, height}, {left, width});
}

at::Tensor resize_crop_video(const at::Tensor& frames, int64_t height, int64_t width) {
  const PixelSize target{width, height};
  const PixelSize size = covering_size({frames.size(2), frames.size(1)}, target);
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
