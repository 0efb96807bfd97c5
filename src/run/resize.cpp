#include "run/resize.h"

#include <ATen/Parallel.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "opensora/config.h"
#include "opensora/error.h"

namespace opensora::run {
namespace {

constexpr int kChannels = 3;
constexpr int kWeightBits = 22;
constexpr int32_t kHalf = 1 << (kWeightBits - 1);

// For each output unit along one axis: the first input unit that counts, how many do, and their weights in fixed point.
struct Taps {
  std::vector<int64_t> first, count;
  std::vector<int32_t> weights;  // [outputs][most]
  int64_t most = 0;

  const int32_t* of(int64_t output) const { return &weights[output * most]; }
};

double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// The taps of the outputs in `span`, where `input` units become `output`.
Taps cubic_taps(int64_t input, int64_t output, Span span) {
  const double scale = static_cast<double>(input) / static_cast<double>(output);
  const double stretch = std::max(scale, 1.0), support = 2 * stretch;
  Taps taps;
  taps.most = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(span.size * taps.most);
  for (int64_t i = 0; i < span.size; ++i) {
    const double center = (static_cast<double>(span.begin + i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(std::floor(center - support + 0.5)), 0);
    const int64_t last = std::min(static_cast<int64_t>(std::floor(center + support + 0.5)), input);
    std::vector<double> weights;
    weights.reserve(last - first);
    for (int64_t x = first; x < last; ++x) {
      weights.push_back(cubic((static_cast<double>(x) - center + 0.5) / stretch));
    }
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    taps.first.push_back(first);
    taps.count.push_back(last - first);
    std::transform(weights.begin(), weights.end(), taps.weights.begin() + i * taps.most,
                   [&](double weight) { return static_cast<int32_t>(std::round(weight / sum * (1 << kWeightBits))); });
  }
  return taps;
}

uint8_t to_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255)); }

// The range of input units that the outputs are made from.
Span needed(const Taps& taps) {
  const int64_t begin = taps.first.front();
  return {begin, taps.first.back() + taps.count.back() - begin};
}

void resize_row(const uint8_t* source, const Taps& taps, uint8_t* target) {
  for (size_t x = 0; x < taps.first.size(); ++x, target += kChannels) {
    const uint8_t* pixel = source + taps.first[x] * kChannels;
    const int32_t* weights = taps.of(static_cast<int64_t>(x));
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int64_t k = 0; k < taps.count[x]; ++k, pixel += kChannels) {
      red += pixel[0] * weights[k];
      green += pixel[1] * weights[k];
      blue += pixel[2] * weights[k];
    }
    target[0] = to_byte(red);
    target[1] = to_byte(green);
    target[2] = to_byte(blue);
  }
}

// [H, W, 3] -> [rows.size, columns.size, 3] of the picture with `width` columns.
at::Tensor resize_columns(const at::Tensor& rgb, int64_t width, Span rows, Span columns) {
  if (rgb.size(1) == width) return rgb.narrow(0, rows.begin, rows.size).narrow(1, columns.begin, columns.size);
  const Taps taps = cubic_taps(rgb.size(1), width, columns);
  const at::Tensor source = rgb.contiguous();
  at::Tensor result = at::empty({rows.size, columns.size, kChannels}, at::kByte);
  const auto* input = source.const_data_ptr<uint8_t>();
  auto* output = result.mutable_data_ptr<uint8_t>();
  const int64_t input_row = source.size(1) * kChannels, output_row = columns.size * kChannels;
  at::parallel_for(0, rows.size, 16, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      resize_row(input + (rows.begin + y) * input_row, taps, output + y * output_row);
    }
  });
  return result;
}

// [h, w, 3] -> [outputs of taps, w, 3]. `rgb` begins at the first row that counts.
at::Tensor resize_rows(const at::Tensor& rgb, const Taps& taps) {
  const at::Tensor source = rgb.contiguous();
  const int64_t row = source.size(1) * kChannels, start = needed(taps).begin;
  at::Tensor result = at::empty({static_cast<int64_t>(taps.first.size()), source.size(1), kChannels}, at::kByte);
  const auto* input = source.const_data_ptr<uint8_t>();
  auto* output = result.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, result.size(0), 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> sums(row);
    for (int64_t y = begin; y < end; ++y) {
      std::fill(sums.begin(), sums.end(), kHalf);
      for (int64_t k = 0; k < taps.count[y]; ++k) {
        const uint8_t* line = input + (taps.first[y] - start + k) * row;
        const int32_t weight = taps.of(y)[k];
        for (int64_t x = 0; x < row; ++x) sums[x] += line[x] * weight;
      }
      std::transform(sums.begin(), sums.end(), output + y * row, to_byte);
    }
  });
  return result;
}

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

at::Tensor resize_bicubic(const at::Tensor& rgb, int64_t height, int64_t width, Span rows, Span columns) {
  if (rgb.size(0) == height) return resize_columns(rgb, width, rows, columns).contiguous();
  const Taps taps = cubic_taps(rgb.size(0), height, rows);
  return resize_rows(resize_columns(rgb, width, needed(taps), columns), taps);
}

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

}  // namespace opensora::run
